"""From parents to a prompt, from a reply to crystals."""

from matsearch.propose.parse import parse_reply

__all__ = ["parse_reply"]
