"""Images, by their full names: docker's short ones are no names to a kubelet."""

import base64
import binascii
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from hypercontainer.errors import InUse, InvalidInput, NotFound, Unavailable
from hypercontainer.hyperd.cri import cri_pb2 as pb
from hypercontainer.hyperd.cri.service import Call
from hypercontainer.lib import clock
from hypercontainer.model import documents as doc
from hypercontainer.model.api import Credentials, Engine
from hypercontainer.model.kube import DiskUsage

HUB = "docker.io"
OF_HUB = (HUB, "index.docker.io", "registry-1.docker.io")


class Images:
    def __init__(self, engine: Engine) -> None:
        self._images = engine.images

    def calls(self) -> Mapping[str, Call]:
        return {
            "PullImage": self.pull,
            "ListImages": self.list,
            "ImageStatus": self.status,
            "RemoveImage": self.remove,
            "ImageFsInfo": self.usage,
        }

    async def pull(self, request: pb.PullImageRequest) -> pb.PullImageResponse:
        name = request.image.image
        credentials = given(request.auth, name)
        async for step in await self._images.pull(name, all_tags=False, platform="", credentials=credentials):
            if isinstance(step, doc.ImagesDone):
                return pb.PullImageResponse(image_ref=step.images[0].id)
        raise Unavailable(f"cannot pull {name}: it has not come to an end")

    async def list(self, request: pb.ListImagesRequest) -> pb.ListImagesResponse:
        wanted = request.filter.image.image
        ids = [entry.id for entry in await self._images.list({})]
        if wanted:
            found = await self._found(wanted)
            ids = [found.id] if found else []
        images = [await self._found(id) for id in ids]
        return pb.ListImagesResponse(images=[told(image) for image in images if image])

    async def status(self, request: pb.ImageStatusRequest) -> pb.ImageStatusResponse:
        found = await self._found(request.image.image)
        return pb.ImageStatusResponse(image=told(found) if found else None)

    async def remove(self, request: pb.RemoveImageRequest) -> pb.RemoveImageResponse:
        """With all its names, as a kubelet means it."""
        found = await self._found(request.image.image)
        if found:
            used = [entry.containers for entry in await self._images.list({}, all=True) if entry.id == found.id]
            if any(used):
                words = f"cannot remove image {request.image.image}: {sum(used)} containers use it"
                raise InUse(words, "image", request.image.image)
            with suppress(NotFound):  # another call's
                await self._images.remove(found.id, force=True)
        return pb.RemoveImageResponse()

    async def usage(self, request: pb.ImageFsInfoRequest) -> pb.ImageFsInfoResponse:
        images, containers = await self._images.usage()
        return pb.ImageFsInfoResponse(image_filesystems=[_usage(images)], container_filesystems=[_usage(containers)])

    async def _found(self, name: str) -> doc.Image | None:
        if not name:
            raise InvalidInput("cannot look for an image without a name")
        try:
            return await self._images.inspect(name)
        except NotFound:
            return None


UID_DIGITS, NAME_CHARACTERS = 10, 256


def _usage(found: DiskUsage) -> pb.FilesystemUsage:
    return pb.FilesystemUsage(
        timestamp=clock.now_ns(),
        fs_id=pb.FilesystemIdentifier(mountpoint=found.path),
        used_bytes=pb.UInt64Value(value=found.bytes),
        inodes_used=pb.UInt64Value(value=found.files),
    )


def told(image: doc.Image) -> pb.Image:
    return pb.Image(
        id=image.id,
        repo_tags=[full(name) for name in image.repo_tags],
        repo_digests=[full(name) for name in image.repo_digests],
        size=image.size,
        spec=pb.ImageSpec(image=image.id),
        pinned=image.pinned,
        **user(image.config.user),
    )


def user(said: str) -> dict[str, Any]:
    """The fields of an Image. Which user an image says can be anything, and all images are told in one answer."""
    name = said.partition(":")[0]
    if name and not (name.isascii() and name.isdecimal() and len(name) <= UID_DIGITS):
        return {"username": name[:NAME_CHARACTERS]}
    return {"uid": pb.Int64Value(value=int(name or "0"))}


def full(name: str) -> str:
    """docker's short names of images in its hub with all that they leave out."""
    host, slash, _ = name.partition("/")
    if not slash:
        return f"{HUB}/library/{name}"
    return name if set(".:") & set(host) or host == "localhost" else f"{HUB}/{name}"


def given(auth: pb.AuthConfig, name: str) -> Credentials | None:
    """None: the kubelet has none. InvalidInput for what is none, or is for another registry."""
    user, password = auth.username, auth.password
    if auth.registry_token:
        raise InvalidInput(
            f"cannot pull {name} with a registry token: give a user and a password, or an identity token"
        )
    if auth.auth and not user:
        try:
            user, _, password = base64.b64decode(auth.auth, validate=True).decode().strip("\0").partition(":")
        except (binascii.Error, UnicodeDecodeError) as e:
            raise InvalidInput(f"cannot pull {name}: its credentials are not USER:PASSWORD in base64") from e
    if not (user or auth.identity_token):
        return None
    _check_address(auth.server_address, name)
    return Credentials(username=user, password=password, identity_token=auth.identity_token)


def _check_address(address: str, name: str) -> None:
    host = address.partition("://")[2] or address
    host, wanted = host.partition("/")[0], full(name).partition("/")[0]
    if host and host != wanted and not (host in OF_HUB and wanted in OF_HUB):
        raise InvalidInput(f"cannot pull {name} with credentials for {host[:200]}")
