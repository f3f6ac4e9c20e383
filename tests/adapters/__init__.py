"""What both adapters must do alike, on every event loop that they run on."""
