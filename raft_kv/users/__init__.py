"""Users of the key-value server: who may carry out which commands on which keys, in the terms of Redis's ACL.

`passwords` hashes and checks passwords, `categories` names the commands, `rules` reads the rules of a user, `table`
holds all users as replicated state, `file` reads users from a file, `access` decides for one node's clients, and `acl`
answers ACL.

With no user in the table everything is allowed to everyone, as in a server without users. The first user must be an
administrator, and from then on every client has to authenticate, unless a user named default allows otherwise.

Rights are checked twice. The client's node checks a command when it arrives, against the users that this node has
applied: most refusals end there. An entry of the log and a query also carry the user's name, and the machine checks
them again where they take effect: a node that lags, or has just started, lets nothing through that the log forbids.
"""
