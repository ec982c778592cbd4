"""The version, where every layer may import it (`netdsl` itself names the API, which stands above them)."""

__version__ = "0.1.0"
