"""Names in BIDS folders: which file is whose scan, brain mask or lesion mask.  Source: BIDS specification 1.10.

A name is `sub-<label>[_ses-<label>][_<key>-<label>...]_<suffix>.nii[.gz]`, in `sub-<label>/[ses-<label>/]anat/`.

Our own parser.  Tried were (import on one core; size of an empty environment with it): bids2table 2.3.1 (0.09 s,
202 MB, 9 packages), ancpbids 0.4.10 (0.12 s, 29 MB, 3 packages) and pybids 0.22 (0.6 s, 393 MB, 28 packages).
bids2table reads `sub-EMI_301_T2w` as `sub-EMI`; ancpbids does not say why it refuses such a name; none compares a
file's name with its folder, or says which scan a mask belongs to, which is what we need.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from uad.common.errors import InputError

NIFTI = re.compile(r"\.nii(?:\.gz)?$", re.IGNORECASE)
SET_APART = ("sourcedata", "code", "models", "stimuli")  # folders that BIDS keeps for other things than the data
DERIVATIVES = "derivatives"
_SUFFIXES = {"t1w": "t1", "t2w": "t2"}
_LESION = re.compile(r"_lesion[A-Za-z0-9_-]*$", re.IGNORECASE)  # of those who do not write `label-lesion_mask`
_LABEL = re.compile(r"[A-Za-z0-9+]+")
_NATIVE = {"orig", "individual", "native", "anat", "scanner"}  # spaces that are the scan's own, besides T1w and T2w
_SAYS_WHAT = {"desc", "label", "space"}  # keys that do not say which scan a file belongs to
_NO_MAGNITUDE = {"phase", "real", "imag"}
_MOST_NAMED = 3

Row = tuple[str, str, str, Path]  # subject, site, column of the cohort table, file


@dataclass(frozen=True)
class BidsFile:
    """One scan or mask.

    Attributes:
        relative: path below the raw folder.
        kind: t1, t2, mask or label.
        subject: `sub-<label>[_ses-<label>]`.
        entities: the others, key to label.
        source: t1 or t2 where a mask's name says which scan it was drawn on (`sub-01_T1w_label-lesion_roi`).
    """

    relative: str
    path: Path
    kind: str
    subject: str
    entities: Mapping[str, str]
    source: str = ""

    @property
    def native(self) -> bool:
        """Whether it lies on the grid of a scan as it was taken."""
        space = self.entities.get("space", "").lower()
        return (not space or space in _NATIVE or space in _SUFFIXES) and "res" not in self.entities

    def order(self) -> tuple[bool, bool]:
        """Smaller is better: as it was taken before processed, without before with contrast agent."""
        return "desc" in self.entities, "ce" in self.entities

    def without_run(self) -> frozenset[tuple[str, str]]:
        return frozenset((key, label) for key, label in self.entities.items() if key != "run")


def looks_like_bids(files: Iterable[str]) -> bool:
    """Whether any T1w or T2w scan lies below a folder `sub-*`."""
    return any(
        _kind(_stem(name)) in _SUFFIXES.values() and any(part.startswith("sub-") for part in _folders(name))
        for name in files
        if NIFTI.search(name)
    )


def bids_files(
    files: Mapping[str, Path],
    modalities: Sequence[str],
    pass_over: Callable[[str, str], None],
    say: Callable[[str], None],
) -> list[Row]:
    """The scans of these modalities, and the brain and lesion masks that lie on their grid.

    Scans as they were taken win over those in a template's space (`space-`, `res-`), which are taken only where there
    are no others.  Of several scans of one subject and modality the one without `desc-` is taken, then the one
    without `ce-`, then the one of the lowest run; if they differ in anything else, they are refused.  Below
    `derivatives` only masks are read.  A mask belongs to a scan if no key contradicts it.

    Args:
        files: path below the raw folder -> path.
        pass_over: called for every NIfTI file that is not used, with the reason and its path below the raw folder.
        say: called with other notes for the user.

    Raises:
        InputError: illegal or contradictory names, several scans none of which is to be preferred, or a mask per
            modality where both modalities are asked for.
    """
    found = _read(files, modalities, pass_over)
    natives = {file.kind for file in found if file.native}
    scans: dict[str, dict[str, list[BidsFile]]] = {}
    for file in found:
        if file.kind not in modalities:
            continue
        if file.kind in natives and not file.native:
            pass_over("in the space of a template or resampled (space-, res-)", file.relative)
        else:
            scans.setdefault(file.subject, {}).setdefault(file.kind, []).append(file)
    rows: list[BidsFile] = []
    unclear: list[str] = []
    enhanced: list[str] = []
    for subject, by_modality in scans.items():
        chosen = {}
        for modality, candidates in by_modality.items():
            taken = _choose(candidates)
            if not taken:
                unclear.append(f"{subject} has {', '.join(str(file.path) for file in candidates)}")
                continue
            for file in candidates:
                if file not in taken:
                    pass_over(
                        "another scan of the subject is taken (without desc-, without ce-, lowest run)", file.relative
                    )
            chosen[modality] = taken[0]
            rows += taken
            enhanced += [subject] if "ce" in taken[0].entities else []
        for kind in ("mask", "label"):
            masks = [file for file in found if file.kind == kind and file.subject == subject]
            rows += _masks_of(masks, chosen, pass_over)
    if unclear:
        raise InputError(
            f"{_some(unclear)}: several scans of one modality, and it is not clear which one counts; leave one of them "
            "in the folder (move the others to sourcedata/)"
        )
    if enhanced:
        say(f"{len(enhanced)} scans have contrast agent (ce-), their subjects have no other: {_some(enhanced)}")
    for file in found:
        if file.kind not in modalities and file.subject not in scans:
            pass_over("of a subject and session without a scan", file.relative)
    return [(file.subject, "", file.kind, file.path) for file in rows]


def _read(
    files: Mapping[str, Path], modalities: Sequence[str], pass_over: Callable[[str, str], None]
) -> list[BidsFile]:
    """Every file that may be used, judged by name and folder."""
    found, illegal, wrong = [], [], []
    for relative, path in files.items():
        if not NIFTI.search(relative):
            continue
        folders = _folders(relative)
        at = next((i for i, part in enumerate(folders) if part.startswith("sub-")), len(folders))
        above, place = folders[:at], folders[at:]
        apart = next((part for part in above if part in SET_APART), None)
        kind = _kind(_stem(relative))
        if apart:
            pass_over(f"{apart}/ is not data in BIDS", relative)
        elif kind not in (*modalities, "mask", "label"):
            pass_over("neither a scan of the modalities asked for nor a brain or lesion mask", relative)
        elif kind in modalities and DERIVATIVES in above:
            pass_over("an image that a program made (derivatives/)", relative)
        elif not place or place[-1] != "anat" or len(place) != 2 + place[1].startswith("ses-"):
            pass_over("not in a folder sub-<label>/[ses-<label>/]anat", relative)
        else:
            bad = [part for part in place[:-1] if not _LABEL.fullmatch(part.partition("-")[2])]
            illegal += bad
            if bad:
                continue
            try:
                file = _parse(relative, path, kind, place[:-1])
            except ValueError as error:
                wrong.append(f"{path}: {error}")
                continue
            if file.entities.get("part") in _NO_MAGNITUDE:
                pass_over("not a magnitude image (part-)", relative)
            else:
                found.append(file)
    if illegal:
        names = sorted(set(illegal))
        key, _, label = names[0].partition("-")
        raise InputError(
            f"{_some(names, 10)}: a BIDS label has only letters, digits and +, no underscore or hyphen; rename folders "
            f"and files, e.g. {names[0]} to {key}-{re.sub('[^A-Za-z0-9+]', '', label)}"
        )
    if wrong:
        raise InputError(f"{_some(wrong)}; rename, so that the name agrees with BIDS and with its folder")
    return found


def _parse(relative: str, path: Path, kind: str, place: Sequence[str]) -> BidsFile:
    """A file by its name; ValueError says what is wrong with the name."""
    stem = _stem(relative)
    head = _LESION.sub("", stem) if _is_free_lesion(stem) else stem.rpartition("_")[0]
    entities: dict[str, str] = {}
    source = ""
    for token in head.split("_") if head else []:
        key, hyphen, label = token.partition("-")
        if token.lower() in _SUFFIXES:
            source = _SUFFIXES[token.lower()]
        elif not hyphen or not _LABEL.fullmatch(key) or not _LABEL.fullmatch(label) or key in entities:
            raise ValueError(f"'{token}' is not one key, a hyphen, and letters or digits")
        else:
            entities[key] = label
    named = [f"{key}-{entities.pop(key)}" for key in ("sub", "ses") if key in entities]
    if named != list(place):
        raise ValueError(f"is named {'_'.join(named) or 'without a subject'}, but lies in {'/'.join(place)}")
    return BidsFile(relative, path, kind, "_".join(named), entities, source)


def _kind(stem: str) -> str:
    """t1, t2, mask, label, or an empty string."""
    head, _, suffix = stem.lower().rpartition("_")
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if _is_free_lesion(stem):
        return "label"
    if suffix in ("mask", "roi"):
        what = {token.partition("-")[2] for token in head.split("_") if token.startswith(("desc-", "label-"))}
        return "label" if "lesion" in what else "mask" if "brain" in what else ""
    return ""


def _is_free_lesion(stem: str) -> bool:
    return bool(_LESION.search(stem)) and not re.search(r"_t[12]w$", stem, re.IGNORECASE)


def _choose(candidates: Sequence[BidsFile]) -> list[BidsFile]:
    """The scan to take; several of one name, which the caller compares; none: they differ in more than the run."""
    best = min(file.order() for file in candidates)
    kept = [file for file in candidates if file.order() == best]
    if len({file.without_run() for file in kept}) > 1:
        return []
    first = min(_run(file) for file in kept)
    return [file for file in kept if _run(file) == first]


def _run(file: BidsFile) -> tuple[int, str]:
    label = file.entities.get("run", "0")
    return (int(label), "") if label.isdecimal() else (10**9, label)


def _masks_of(
    masks: Sequence[BidsFile], scans: Mapping[str, BidsFile], pass_over: Callable[[str, str], None]
) -> list[BidsFile]:
    """The mask that fits all scans best; several of equal standing, which the caller compares."""
    fits = {file.relative: [m for m, scan in scans.items() if _belongs(file, scan)] for file in masks}
    whole = [file for file in masks if scans and len(fits[file.relative]) == len(scans)]
    taken = _nearest(whole, scans.values())
    if not taken:
        per_modality = [_nearest([f for f in masks if m in fits[f.relative]], [scan]) for m, scan in scans.items()]
        given = [files for files in per_modality if files]
        if len(given) > 1:
            names = ", ".join(str(file.path) for files in given for file in files)
            raise InputError(
                f"{names}: a mask per modality, and a cohort has one for all its modalities; make one cohort per "
                "modality, or resample scans and mask to one common grid"
            )
        taken = given[0] if given else []
    for file in masks:
        if file not in taken:
            other = "another mask fits the scan better" if fits[file.relative] else "the mask of another grid or scan"
            pass_over(f"{other} (space-, res-, acq-, run-, ...)", file.relative)
    return taken


def _nearest(masks: Sequence[BidsFile], scans: Iterable[BidsFile]) -> list[BidsFile]:
    """The masks that name most of their scans' keys."""
    shared = {
        file.relative: sum(len(file.entities.items() & scan.entities.items()) for scan in scans) + bool(file.source)
        for file in masks
    }
    return [file for file in masks if shared[file.relative] == max(shared.values())]


def _belongs(mask: BidsFile, scan: BidsFile) -> bool:
    """Whether nothing in a mask's name contradicts that it is on the scan's grid."""
    if mask.source not in ("", scan.kind):
        return False
    for key in mask.entities.keys() - _SAYS_WHAT:
        same_run = key == "run" and "run" in scan.entities and _run(mask) == _run(scan)
        if mask.entities[key] != scan.entities.get(key) and not same_run:
            return False
    space, its = mask.entities.get("space", "").lower(), scan.entities.get("space", "").lower()
    if space in ("", its):
        return True
    return _SUFFIXES[space] == scan.kind and scan.native if space in _SUFFIXES else space in _NATIVE and scan.native


def _folders(relative: str) -> tuple[str, ...]:
    return PurePosixPath(relative).parts[:-1]


def _stem(relative: str) -> str:
    return NIFTI.sub("", PurePosixPath(relative).name)


def _some(names: Sequence[str], most: int = _MOST_NAMED) -> str:
    return "; ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
