"""HTTP/1.1 without a framework: server, ASGI adapter, keep-alive client; and the control channel between processes."""
