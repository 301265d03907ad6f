"""What a run leaves behind: step log, requests, metrics, files."""
