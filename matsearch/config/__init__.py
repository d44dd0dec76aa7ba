"""A campaign's configuration: TOML in, one checked and frozen object out."""

from matsearch.config.reading import PRESETS, apply_override, differences, load_config, read_toml, resolve_config
from matsearch.config.settings import (
    BudgetSettings,
    CampaignConfig,
    LLMSettings,
    ObjectiveSettings,
    PotentialSettings,
    ReferenceSettings,
    changeable_options,
)
from matsearch.propose.settings import SpaceSettings, composition_elements
from matsearch.relaxation.settings import RelaxSettings
from matsearch.search.settings import SearchSettings

__all__ = [
    "PRESETS",
    "BudgetSettings",
    "CampaignConfig",
    "LLMSettings",
    "ObjectiveSettings",
    "PotentialSettings",
    "ReferenceSettings",
    "RelaxSettings",
    "SearchSettings",
    "SpaceSettings",
    "apply_override",
    "changeable_options",
    "composition_elements",
    "differences",
    "load_config",
    "read_toml",
    "resolve_config",
]
