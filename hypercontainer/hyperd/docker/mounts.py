"""docker's three ways to say what is mounted -> our Mounts: Binds, Mounts, Tmpfs. Pure."""

from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.hyperd.docker import config
from hypercontainer.model.spec import Mount

PROPAGATION = ("shared", "slave", "rshared", "rslave", "private")  # beside rprivate, which all mounts have
PASSED_OVER = ("", "rw", "z", "Z", "rprivate", "consistent", "cached", "delegated")  # no label is needed
UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def all_of(body: config.ContainerConfig) -> list[Mount]:
    host = body.host_config
    mounts = [bind(word) for word in host.binds]
    mounts += [mount(each) for each in host.mounts]
    mounts += [tmpfs(target, words) for target, words in host.tmpfs.items()]
    taken = {each.target for each in mounts}
    mounts += [Mount(type="volume", target=target) for target in body.volumes if target not in taken]
    if any(each.type == "volume" for each in mounts):
        check_driver(host.volume_driver)
    return mounts


def bind(word: str) -> Mount:
    """ "SOURCE:TARGET[:OPTIONS]", "TARGET"."""
    parts = word.split(":")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise InvalidInput(f"invalid volume specification: {word[:200]!r}")
    if len(parts) == 1:
        return Mount(type="volume", target=parts[0])
    source, target, options = parts[0], parts[1], parts[2].split(",") if len(parts) == 3 else []
    of_host = source.startswith("/")
    for option in options:
        if option in PROPAGATION:
            raise InvalidInput(f"cannot mount {word[:200]!r}: propagation does not cross into a virtual machine")
        if option not in (*PASSED_OVER, "ro", "nocopy") or (option == "nocopy" and of_host):
            raise InvalidInput(f"invalid mode: {option[:60]} in {word[:200]!r}")
    return Mount(
        type="bind" if of_host else "volume",
        source=source,
        target=target,
        read_only="ro" in options,
        create=of_host,
        no_copy="nocopy" in options,
    )


def mount(said: config.Mount) -> Mount:
    _check_options(said)
    if said.type == "bind":
        return _bind(said)
    if said.type == "volume":
        return _volume(said)
    if said.type == "tmpfs":
        options = said.tmpfs_options
        if said.source:
            raise InvalidInput(f"cannot mount a tmpfs at {said.target[:200]!r} with a Source: it has none")
        return Mount(
            type="tmpfs",
            target=said.target,
            read_only=said.read_only,
            size_mib=mib(options.size_bytes),
            mode=options.mode or 0o1777,
            options=["=".join(words) for words in options.options],
        )
    raise InvalidInput(f"cannot mount a {said.type[:40]!r} at {said.target[:200]!r}: use bind, volume or tmpfs")


def _check_options(said: config.Mount) -> None:
    """Those of another type than its own, in docker's words."""
    for kind, options in (
        ("bind", said.bind_options),
        ("volume", said.volume_options),
        ("tmpfs", said.tmpfs_options),
        ("image", said.image_options),
        ("cluster", said.cluster_options),
    ):
        if kind != said.type and options != type(options)():
            field = f"{kind.capitalize()}Options"
            raise InvalidInput(f'invalid mount config for type "{said.type[:40]}": field {field} must not be specified')


def _bind(said: config.Mount) -> Mount:
    options = said.bind_options
    if options.propagation not in ("", "rprivate"):
        raise InvalidInput(
            f"cannot mount at {said.target[:200]!r} with Propagation {options.propagation[:40]!r}: "
            "it does not cross into a virtual machine"
        )
    for given, name in (
        (options.non_recursive, "NonRecursive"),
        (options.read_only_non_recursive, "ReadOnlyNonRecursive"),
        (options.read_only_force_recursive, "ReadOnlyForceRecursive"),
    ):
        if given:
            raise InvalidInput(f"cannot mount at {said.target[:200]!r} with {name}: it is not supported")
    return Mount(
        type="bind",
        source=said.source,
        target=said.target,
        read_only=said.read_only,
        create=options.create_mountpoint,
    )


def _volume(said: config.Mount) -> Mount:
    options = said.volume_options
    check_driver(options.driver_config.name)
    if (options.labels or options.driver_config.options) and not said.source:
        raise InvalidInput(f"cannot mount at {said.target[:200]!r} with Labels or options: name the volume")
    return Mount(
        type="volume",
        source=said.source,
        target=said.target,
        read_only=said.read_only,
        no_copy=options.no_copy,
        subpath=options.subpath,
    )


def check_driver(name: str) -> None:
    """Of a volume. NotFound for one that is not here."""
    if name not in ("", "local"):
        raise NotFound("plugin", name[:60], f'plugin "{name[:60]}" not found: there is the driver local')


def tmpfs(target: str, words: str) -> Mount:
    """ "size=64m,mode=1777,ro,uid=1000"."""
    size_mib, mode, read_only, options = 0, 0o1777, False, []
    for option in words.split(",") if words else ():
        key, equals, value = option.partition("=")
        if key == "size" and equals:
            size_mib = mib(size(value))
        elif key == "mode" and equals:
            if not value or len(value) > 4 or value.strip("01234567"):
                raise InvalidInput(f"invalid mode {value[:40]!r} of the tmpfs at {target[:200]!r}: use octal digits")
            mode = int(value, 8)
        elif option == "ro":
            read_only = True
        else:
            options.append(option)  # the engine knows which there are
    return Mount(type="tmpfs", target=target, size_mib=size_mib, mode=mode, read_only=read_only, options=options)


def size(text: str) -> int:
    """Bytes of "64m", "1g", "65536"."""
    digits, unit = (text[:-1], text[-1:].lower()) if not text[-1:].isdigit() else (text, "b")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18 or unit not in UNITS:
        raise InvalidInput(f"invalid size {text[:40]!r}: use a number of bytes, or one with k, m or g behind it")
    return int(digits) * UNITS[unit]


def mib(size_bytes: int) -> int:
    """Rounded up: 0 would be no limit."""
    return -(-size_bytes >> 20)
