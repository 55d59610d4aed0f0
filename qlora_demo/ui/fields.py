"""What the forms of several tabs share: the models and data sets that their dropdowns offer."""

from __future__ import annotations

from ..core.presets import PRESETS

# By the setting's name; a preset's value stands once, in the order of the presets.
CHOICES = {
    name: list(dict.fromkeys(getattr(preset.config, name) for preset in PRESETS.values())) for name in ("model", "data")
}
