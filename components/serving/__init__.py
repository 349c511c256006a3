"""The service that answers: an HTTP API and one page, on `components.prediction`."""
