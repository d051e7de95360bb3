"""Read a model's key from where its manifest says, at the moment of the call."""

from __future__ import annotations

import os

from aosctl.errors import ProviderError
from aosctl.providers.base import ModelSpec
from aosctl.providers.faults import named
from aosctl.redaction import may_be_named, remember

NO_KEY_NEEDED = "none"


def read_key(spec: ModelSpec, usual: str | None) -> str:
    """Return the key; a server of one's own may need none.

    `usual` is the vendor's variable, None where even the vendor needs no key.

    Raises ProviderError when there is none where it should be.
    """
    if spec.open_key is not None:
        return _usable(spec, spec.open_key().strip(), f'the secret "{spec.api_key_secret}"')
    variable = spec.api_key_env or (None if spec.base_url else usual)
    if variable is None:
        return NO_KEY_NEEDED
    if not may_be_named(variable):
        raise ProviderError(
            f'model "{spec.name}": the environment variable {variable} is aosctl\'s own',
            hint="name another variable in spec.apiKeyEnv of the Model",
            kind="no_key",
        )
    key = remember(os.environ.get(variable, "").strip())
    if not key:
        raise ProviderError(
            f'model "{spec.name}" needs an API key: the environment variable {variable} is not set',
            hint=f"export {variable}=..., or name another variable in spec.apiKeyEnv of the Model",
            kind="no_key",
        )
    return _usable(spec, key, variable)


def _usable(spec: ModelSpec, key: str, where: str) -> str:
    if not (key and key.isascii() and key.isprintable()):
        raise named(spec, "auth", f"{where} holds characters that no key has")
    return key
