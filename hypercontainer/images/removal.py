"""docker's rules of what a removal does to names and to images. Pure: the store's index in, what to say out."""

from collections.abc import Callable, Iterable

import msgspec

from hypercontainer.errors import InUse, InvalidInput, NotFound
from hypercontainer.images import manifest, reference
from hypercontainer.images.index import Index
from hypercontainer.images.reference import Reference
from hypercontainer.model.documents import ImageRemoved

Users = Callable[[str], str | None]  # image id -> who uses it ("container web"), None when nobody does


def nobody(image_id: str) -> str | None:
    """For stores without containers."""
    return None


def remove(
    here: Index, image_id: str, name: str, *, force: bool, users: Users, parents: bool = True
) -> list[ImageRemoved]:
    """Take `name` off image `image_id`; with its last name goes the image. By its id all names go.

    One that is in use keeps its last name, or raises InUse; `force` takes the names, and the image stays without.
    `parents`: the steps of its build go with it that nothing else needs.
    """
    asked = _asked(here, image_id, name)
    goes = _going(here, image_id, asked)
    stays = [ref for ref in _references(here, image_id) if ref not in goes]
    if asked is None and not force and len({f"{ref.domain}/{ref.path}" for ref in goes}) > 1:
        why = "it has names in several repositories; remove those, or force it"
        raise InUse(f"cannot remove image {name}: {why}", "image", name)
    user = None if stays else users(image_id)
    if user and not force:
        raise InUse(f"cannot remove image {name}: {user} uses it", "image", name, [user])
    said = [_untag(here, image_id, ref) for ref in goes]
    if not stays and not user:
        parent = here.images[image_id].parent
        said += delete(here, image_id)
        said += _delete_unneeded(here, parent, users) if parents else []
    return said


def _delete_unneeded(here: Index, image_id: str, users: Users) -> list[ImageRemoved]:
    """Steps of a build that led to an image which has gone, and to no other one, as in docker."""
    said: list[ImageRemoved] = []
    while image_id in here.images:
        parent = here.images[image_id].parent
        needed = _references(here, image_id) or any(r.parent == image_id for r in here.images.values())
        if needed or users(image_id):
            break
        said += delete(here, image_id)
        image_id = parent
    return said


def lineage(here: Index, images: Iterable[str]) -> set[str]:
    """These images, and those that they were made of."""
    found: set[str] = set()
    for image_id in images:
        while image_id in here.images and image_id not in found:
            found.add(image_id)
            image_id = here.images[image_id].parent
    return found


def delete(here: Index, image_id: str) -> list[ImageRemoved]:
    """Take an image without names out. Its layers that no other image has are named too, the top one first."""
    record = here.images.pop(image_id)
    kept = {chain for other in here.images.values() for chain in manifest.chain(other.diff_ids)}
    gone = [chain for chain in reversed(manifest.chain(record.diff_ids)) if chain not in kept]
    return [ImageRemoved(deleted=digest) for digest in (image_id, *gone)]


def _asked(here: Index, image_id: str, name: str) -> Reference | None:
    """The reference that was meant; None when it was the image's id."""
    try:
        ref = reference.parse(name)
    except InvalidInput:
        return None
    known = image_id in here.names.get(ref.canonical, [])
    if ref.digest:
        known = f"{ref.domain}/{ref.path}@{ref.digest}" in here.images[image_id].digests
    if not known and not reference.is_id(name):
        raise NotFound("image", name)
    return ref if known else None


def _references(here: Index, image_id: str) -> list[Reference]:
    return [reference.parse(text) for text in (*here.named(image_id), *here.images[image_id].digests)]


def _going(here: Index, image_id: str, asked: Reference | None) -> list[Reference]:
    """With the last tag of a repository its digests go."""
    every = _references(here, image_id)
    if asked is None:
        return every
    if asked.digest:
        asked = asked._replace(tag="")
        return [ref for ref in every if ref == asked]
    same = [ref for ref in every if (ref.domain, ref.path) == (asked.domain, asked.path)]
    last = not [ref for ref in same if ref.tag and ref != asked]
    return [ref for ref in same if ref == asked or (last and ref.digest)]


def _untag(here: Index, image_id: str, ref: Reference) -> ImageRemoved:
    if ref.digest:
        record = here.images[image_id]
        left = [digest for digest in record.digests if digest != ref.canonical]
        here.images[image_id] = msgspec.structs.replace(record, digests=left)
    else:
        here.take(ref.canonical, image_id)
    return ImageRemoved(untagged=str(ref))
