//! Site links: what carries the log's writes to the local and the remote sites.
