"""Experts by request inside vLLM: the entry point it loads, and what it was written against.

`rights` is plain torch and tested. `model` needs vLLM and has never been run: see docs/vllm.md.
"""

from __future__ import annotations

import inspect
from typing import Any

from modelops.errors import EngineError

WRITTEN_AGAINST = "vllm-project/vllm@050001e473caca1474c10ccba76f43747229bb21"
"""The commit whose private hooks `model` overrides; they move with every release."""

_HOOKS = {
    "add_request": ["self", "req_index", "new_req_data"],
    "remove_request": ["self", "req_id"],
    "prepare_inputs": ["self", "input_batch", "req_states"],
    "prepare_dummy_inputs": ["self", "num_reqs", "num_tokens"],
}


def register() -> None:
    """Have vLLM serve FlexOlmo under governance. The entry point `vllm.general_plugins` names it.

    Raises:
        EngineError: this vLLM has other hooks than the one this was written against.
    """
    from vllm import ModelRegistry
    from vllm.v1.worker.gpu.model_states.default import DefaultModelState

    require_hooks(DefaultModelState)
    ModelRegistry.register_model(
        "FlexOlmoForCausalLM", "modelops.engine.vllm_plugin.model:GovernedFlexOlmoForCausalLM"
    )


def require_hooks(model_state: type[Any]) -> None:
    """Refuse a vLLM that would not call us: a mask that is never written must not go unnoticed.

    Raises:
        EngineError: a hook is missing or takes other arguments.
    """
    for name, wanted in _HOOKS.items():
        hook = getattr(model_state, name, None)
        found = list(inspect.signature(hook).parameters) if hook else None
        if found != wanted:
            raise EngineError(
                f"expected vLLM's {name} to take {wanted}, found {found}; "
                f"this plugin was written against {WRITTEN_AGAINST}, use that version"
            )
