"""A campaign: the loop that connects proposer, relaxation, objectives, search and store."""

from matsearch.campaign.campaign import Campaign

__all__ = ["Campaign"]
