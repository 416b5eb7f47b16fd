"""What Hydra must know before it composes: our resolvers, and the one node that users may add keys to."""

from __future__ import annotations

import secrets
from datetime import datetime

from agnews_exp.config.locations import project_root, run_command


def new_run_id() -> str:
    """Return a folder name that no two runs share, whatever starts in the same microsecond."""
    return f"{datetime.now():%Y%m%d-%H%M%S-%f}-{secrets.token_hex(3)}"


def register() -> None:
    """Register the resolvers ``${agnews.*:}`` and the open ``tags`` node; safe to call more than once."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    OmegaConf.register_resolver("agnews.root", lambda: str(project_root()), replace=True)
    OmegaConf.register_resolver("agnews.command", run_command, replace=True)
    OmegaConf.register_resolver("agnews.run_id", new_run_id, replace=True, use_cache=True)
    # Hydra closes every mapping against unknown keys; tags are the user's own, so theirs stays open.
    ConfigStore.instance().store(
        name="open_tags", node={"tags": OmegaConf.create({}, flags={"struct": False})}, replace=True
    )
