"""The dashboard and its interface: HTTP, WebSocket, metrics."""
