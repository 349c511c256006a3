"""The stages of ai-vs-real, one directory each, and the contracts between them."""
