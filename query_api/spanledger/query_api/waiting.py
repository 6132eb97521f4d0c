"""What waits on this host for the database, as the service and the commands say it."""

from collections import Counter
from typing import Any

from spanledger.exporter.errors import ConfigurationError
from spanledger.exporter.pipeline import open_spool, spool_folder
from spanledger.exporter.settings import Settings
from spanledger.exporter.spool import Spool


def waiting(spool: Spool) -> dict[str, Any]:
    """Sizes in bytes, the age of the first in seconds, and what processes that are not yet buried have lost."""
    usage = spool.usage()
    lost: Counter[str] = sum((Counter(loss.counts) for loss in spool.presences().losses), Counter())
    return {
        "folder": str(spool.folder),
        "segments": usage.segments,
        "bytes": usage.bytes,
        "oldest_seconds": round(usage.oldest, 1),
        "corrupt_files": usage.corrupt,
        "lost": dict(lost),
    }


def remark(settings: Settings) -> str | None:
    """A sentence for whoever looks at the rows of a database while spans of this host still wait for it."""
    if not spool_folder(settings, settings.database_url).is_dir():
        return None
    try:
        usage = open_spool(settings).usage()
    except ConfigurationError:
        return None
    if not usage.segments:
        return None
    return f"Spans wait in the spool ({usage.bytes:,} bytes); `spanledger spool drain` brings them here."
