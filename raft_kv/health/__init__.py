"""The health port: a small HTTP server for supervisors, Prometheus and people. It changes nothing.

`http_session` speaks HTTP, `answers` decides what each path says, `page` holds the page, and `port` moves the bytes.
"""
