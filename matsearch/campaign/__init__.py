"""A campaign: the loop that connects proposer, relaxation, objectives, search and store."""
