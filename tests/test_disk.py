"""Files go to disk while they grow."""

import os

from dissect_embed.disk import sync_early


def test_a_growing_file_is_synced_now_and_then(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    path = tmp_path / "file"
    path.touch()
    with sync_early(path, every=100) as written:
        for _ in range(9):
            written(30)
    assert len(synced) == 2  # after 120 and 240 bytes
