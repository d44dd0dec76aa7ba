"""The structures of the Materials Project by its API, with the user's own key.

The API is that of https://api.materialsproject.org/docs: `materials/summary` in pages (`_skip`, `_limit`), the key in
the header `X-API-KEY`. Structures that the Materials Project took from GNoME are left out: their licence, CC BY-NC 4.0,
is another than that of the rest. Users who agreed to it get them too, unless they are asked not to be sent, so that the
licence of each is looked at as well.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from matsearch.errors import InputError
from matsearch.records import Rejection, Stage
from matsearch.reference.phase_source import Phase, PhaseSource, phase_structure

MP_API = "mp-api"
"""The word that this source goes by."""
KEY = "MP_API_KEY"
ENDPOINT = "MP_API_ENDPOINT"  # as the package `mp-api` calls it
DEFAULT_ENDPOINT = "https://api.materialsproject.org"
PER_PAGE = 500  # the API gives up to 1000 at once, but runs out of time over large cells
TIMEOUT = 120.0  # seconds; a full page of structures takes some ten
PAUSES = (1.0, 5.0, 20.0, 60.0)  # seconds before each new attempt at what a busy server refused
_BUSY = (429, 500, 502, 503, 504)
_WITHOUT_GNOME = {"deprecated": "False", "batch_id_not_eq": "gnome_r2scan_statics"}

Row = list[Any]
"""What is kept of a material: id, lattice [6], species, coordinates; or id, reason, detail."""


class MaterialsProjectPhases(PhaseSource):
    """All structures of the Materials Project that are not deprecated.

    Attributes:
        version: The database version, such as `2025.02.12`; empty where the API does not say.
    """

    def __init__(self, keep: Path | None = None) -> None:
        """Ask which version of the database is there; checks the key.

        Args:
            keep: Folder for the pages that have arrived; they are not asked for again while the version is the same.

        Raises:
            InputError: No key, a key that is refused, or nobody who answers.
        """
        self.name = MP_API
        self._kept: Path | None = None
        self._endpoint = os.environ.get(ENDPOINT, DEFAULT_ENDPOINT).rstrip("/")
        if not self._endpoint.startswith(("https://", "http://")):
            raise InputError(f"{ENDPOINT} must be an address such as {DEFAULT_ENDPOINT}, got {self._endpoint!r}")
        self._key = os.environ.get(KEY, "").strip()
        if not self._key:
            raise InputError(
                f"{MP_API} needs your key of the Materials Project in the environment variable {KEY}; "
                "it is shown at https://materialsproject.org/api when you are logged in"
            )
        if not self._key.isascii() or not self._key.isprintable() or " " in self._key:
            raise InputError(f"{KEY} holds no key of the Materials Project: letters and digits only are expected")
        self.version = re.sub(r"[^0-9A-Za-z.]", "", str(self._get("heartbeat", {}).get("db_version", "")))
        self.attribution = (
            f"Crystal structures: Materials Project{self.version and f' v{self.version}'} "
            "(https://materialsproject.org), CC-BY 4.0, A. Jain et al., APL Materials 1, 011002 (2013)."
        )
        if self.n_expected == 0:
            raise InputError(f"{self._endpoint} announces no materials; is it the API of the Materials Project?")
        if keep is not None and self.version:
            self._kept = keep / f"materials-project-{self.version}"
            self._kept.mkdir(parents=True, exist_ok=True)

    @property
    def digest(self) -> str:
        """The version of the database."""
        return f"{MP_API} {self.version}"

    @cached_property
    def n_expected(self) -> int:
        """Materials that the API announces."""
        found = self._get("materials/summary/", {**_WITHOUT_GNOME, "_fields": "material_id", "_limit": "1"})
        return int(found.get("meta", {}).get("total_doc", len(found["data"])))

    def __iter__(self) -> Iterator[Phase]:
        """Each material once; pages that overlap because the database moved under them do not repeat any.

        Raises:
            InputError: The API stopped answering, or gave fewer materials than it announced.
        """
        seen: set[str] = set()
        for skip in range(0, self.n_expected, PER_PAGE):
            for material_id, *rest in self._page(skip):
                if material_id not in seen:
                    seen.add(material_id)
                    yield material_id, _phase(rest)
        if len(seen) < self.n_expected:
            raise InputError(
                f"{MP_API}: {len(seen)} different materials of {self.n_expected} announced came from {self._endpoint}; "
                f"its pages overlap or stop short. Try again later{self._without_kept()}"
            )

    def _without_kept(self) -> str:
        return "" if self._kept is None else f", without the folder {self._kept}"

    def _page(self, skip: int) -> list[Row]:
        file = None if self._kept is None else self._kept / f"{skip:07d}-{PER_PAGE}.json.gz"
        if file is not None and file.is_file():
            rows: list[Row] = json.loads(gzip.decompress(file.read_bytes()))
            return rows
        wanted = {
            "_fields": "material_id,structure,deprecated,builder_meta",
            "_limit": str(PER_PAGE),
            "_skip": str(skip),
        }
        rows = [_row(material) for material in self._get("materials/summary/", _WITHOUT_GNOME | wanted)["data"]]
        if file is not None:
            partial = file.with_suffix(".partial")
            partial.write_bytes(gzip.compress(json.dumps(rows, separators=(",", ":")).encode(), compresslevel=6))
            partial.replace(file)
        return rows

    def _get(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        """The JSON answer to a request, after some patience with a busy server.

        Raises:
            InputError: See `__init__`.
        """
        url = f"{self._endpoint}/{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        version = metadata.version("matsearch")
        request = urllib.request.Request(
            url, headers={"Accept": "application/json", "User-Agent": f"matsearch/{version}"}
        )
        request.add_unredirected_header("X-API-KEY", self._key)  # for this server, and none that it points to
        trouble = ""
        for pause in (0.0, *PAUSES):
            time.sleep(pause)
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                    answer = json.loads(response.read())
            except urllib.error.HTTPError as err:
                with err:
                    trouble = f"HTTP {err.code}"
                if err.code in (401, 403):
                    raise InputError(
                        f"the Materials Project refused the key in {KEY} (HTTP {err.code} from {self._endpoint}); "
                        "copy it anew from https://materialsproject.org/api"
                    ) from None
                if err.code not in _BUSY:
                    raise InputError(
                        f"{self._endpoint}/{path} answers {trouble}: the API is another than matsearch knows; "
                        "download the structures and build from files"
                    ) from None
            except ValueError:
                trouble = "no JSON came"
            except (OSError, http.client.HTTPException) as err:
                trouble = str(getattr(err, "reason", err)) or type(err).__name__
            else:
                if isinstance(answer, dict) and (not query or isinstance(answer.get("data"), list)):
                    return answer
                trouble = "an answer without data came"
        raise InputError(
            f"no answer from {self._endpoint}/{path} ({trouble}); check the network"
            + ("" if self._kept is None else ", or continue later with the same command: what has arrived is kept")
        )


def _row(material: dict[str, Any]) -> Row:
    """What is kept of one material of an answer."""
    from pymatgen.core import Lattice

    material_id = str(material.get("material_id"))
    structure = material.get("structure")
    if material.get("deprecated"):
        return [material_id, "deprecated", "the Materials Project has withdrawn it"]
    if (material.get("builder_meta") or {}).get("license") == "BY-NC":
        return [material_id, "licence", "CC BY-NC 4.0: not for every use, as the others are"]
    try:
        sites = structure["sites"]  # type: ignore[index]
        lattice = Lattice(structure["lattice"]["matrix"])  # type: ignore[index]
        if any(len(site["species"]) != 1 or abs(site["species"][0].get("occu", 1) - 1) > 1e-6 for site in sites):
            return [material_id, "disordered", "it has partly occupied sites"]
        species = [str(site["species"][0]["element"]) for site in sites]
        coords = np.array([site["abc"] for site in sites], dtype=float)
        # Lengths and angles say no handedness. A left-handed cell is right-handed along its vectors turned round.
        coords *= np.sign(np.linalg.det(lattice.matrix))
        return [material_id, list(lattice.parameters), species, coords.ravel().tolist()]
    except (KeyError, TypeError, ValueError, IndexError) as err:
        return [
            material_id,
            "unreadable",
            f"its structure has another form than expected ({type(err).__name__}: {err})",
        ]


def _phase(rest: Row) -> Any:
    if isinstance(rest[0], str):
        return Rejection(Stage.PARSE, rest[0], rest[1])
    return phase_structure(*rest)
