"""Where trained models come from, besides MODELS_DIR: an S3-compatible store, if one is named."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlsplit

from agents.mirror import Mirror
from serving.settings import Settings
from serving.system import set_defaults

PLAIN_REQUESTS = {
    # Checksums in trailers are refused by many servers that are not AWS; cards have SHA-256.
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}
_CONNECT_S, _TRIES = 2.0, 2  # agents wait for it before their first answer


def mirror_of(settings: Settings, monotonic: Callable[[], float] = time.monotonic) -> Mirror | None:
    """Return the way to the store of ``MODELS_URL``; None if no store is named.

    Credentials are the S3 client's own affair: ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``
    of the environment, its files, or the machine's role. Nothing of ours ever holds them.

    Parameters
    ----------
    monotonic : seconds of a clock that nobody sets.
    """
    data = settings.data
    if data.models_url is None:
        return None
    set_defaults(**PLAIN_REQUESTS)
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    client = S3FileSystem(
        endpoint_override=data.models_endpoint,
        region=data.models_region,
        connect_timeout=_CONNECT_S,
        request_timeout=10.0,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_TRIES),
        background_writes=False,
        allow_delayed_open=True,  # small files are then one request: there or not
    )
    url = urlsplit(data.models_url)
    prefix = f"{url.netloc}{url.path}".rstrip("/")
    store = ArrowFSWrapper(client, skip_instance_cache=True)
    return Mirror(store, prefix, data.models_url, data.models_dir, monotonic)
