# SPDX-License-Identifier: Apache-2.0
"""CPU models: which of the features that KVM on this host can show a guest it does show.

``host`` and ``max`` show all of them, ``qemu64`` and ``kvm64`` the few of QEMU's models of these names (QEMU:
``target/i386/cpu.c``). Features are added and taken away by name; what the host does not have cannot be added. Names of
bits: Intel SDM vol. 2A, CPUID; AMD APM vol. 3, appendix E; spelled as QEMU spells them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from qdevpy.accel.kvm.cpuid import Leaf
from qdevpy.errors import AccelError, did_you_mean

#: function, index, register -> names of its bits from bit 0 on; ``-``: none
WORDS: dict[tuple[int, int, str], str] = {
    (1, 0, "edx"): "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - ds acpi mmx fxsr sse "
    "sse2 ss ht tm ia64 pbe",
    (1, 0, "ecx"): "pni pclmulqdq dtes64 monitor ds-cpl vmx smx est tm2 ssse3 cid - fma cx16 xtpr pdcm - pcid dca sse4.1 sse4.2 "
    "x2apic movbe popcnt tsc-deadline aes xsave - avx f16c rdrand hypervisor",
    (7, 0, "ebx"): "fsgsbase tsc-adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm - - mpx - avx512f avx512dq rdseed adx "
    "smap avx512ifma pcommit clflushopt clwb intel-pt avx512pf avx512er avx512cd sha-ni avx512bw avx512vl",
    (7, 0, "ecx"): "- avx512vbmi umip pku - waitpkg avx512vbmi2 - gfni vaes vpclmulqdq avx512vnni avx512bitalg - "
    "avx512-vpopcntdq - la57 - - - - - rdpid - bus-lock-detect cldemote - movdiri movdir64b - sgxlc pks",
    (7, 0, "edx"): "- - avx512-4vnniw avx512-4fmaps fsrm - - - avx512-vp2intersect - md-clear - - - serialize - tsx-ldtrk - - "
    "arch-lbr - - amx-bf16 avx512-fp16 amx-tile amx-int8 spec-ctrl stibp - arch-capabilities core-capability ssbd",
    (0xD, 1, "eax"): "xsaveopt xsavec xgetbv1 xsaves",
    (0x80000001, 0, "edx"): "- - - - - - - - - - - syscall - - - - - - - - nx - mmxext - - fxsr-opt pdpe1gb rdtscp - lm "
    "3dnowext 3dnow",
    (0x80000001, 0, "ecx"): "lahf-lm cmp-legacy svm extapic cr8legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit "
    "wdt - lwp fma4 tce - nodeid-msr - tbm topoext perfctr-core perfctr-nb",
    (
        0x80000008,
        0,
        "ebx",
    ): "clzero - xsaveerptr - - - - - - wbnoinvd - - ibpb - ibrs amd-stibp - - - - - - - - amd-ssbd virt-ssbd amd-no-ssb",
}
#: other names of some
ALIASES = {
    "sse3": "pni",
    "sse4-1": "sse4.1",
    "sse4-2": "sse4.2",
    "i64": "lm",
    "xd": "nx",
    "ffxsr": "fxsr-opt",
    "lahf_lm": "lahf-lm",
}
#: switches of -cpu that are no features, with the only values that are so here
SWITCHES = {"check": None, "enforce": None, "migratable": None, "pmu": False, "kvm": True, "host-cache-info": False}

BITS: dict[str, tuple[tuple[int, int, str], int]] = {
    name: (word, 1 << number) for word, names in WORDS.items() for number, name in enumerate(names.split()) if name != "-"
}

_PENTIUM_PRO = "fpu de pse tsc msr mce cx8 pge cmov pat fxsr mmx sse sse2 pae sep apic"
_OF_EVERY_GUEST = "x2apic hypervisor ht cmp-legacy tsc-deadline"


class Model(NamedTuple):
    """A CPU of few features.

    :ivar signature: EAX of function 1: family, model, stepping
    :ivar brand: what it calls itself, at most 47 characters
    """

    signature: int
    brand: str
    features: str


MODELS = {
    "qemu64": Model(
        0x60FB1,
        "QEMU Virtual CPU version 2.5+",
        f"{_PENTIUM_PRO} {_OF_EVERY_GUEST} mtrr clflush mca pse36 pni cx16 lm syscall nx lahf-lm",
    ),
    "kvm64": Model(
        0xF61, "Common KVM processor", f"{_PENTIUM_PRO} {_OF_EVERY_GUEST} vme mtrr clflush mca pse36 pni cx16 lm syscall nx"
    ),
}
#: functions that a model of few features keeps besides those with features of it
_KEPT = {0, 1, 4, 0xB, *range(0x40000000, 0x40000100), *range(0x80000000, 0x80000009)}


class CpuChoice(NamedTuple):
    """What ``-cpu`` says.

    :ivar model: None: everything that the host has
    """

    model: Model | None
    added: frozenset[str]
    removed: frozenset[str]


def parse_cpu(text: str) -> CpuChoice:
    """What a text such as ``host,-avx2,aes=off`` says.

    :raises AccelError: an unknown model or feature
    """
    name, *words = text.split(",")
    if name not in (*MODELS, "host", "max"):
        known = ("host", "max", *MODELS)
        hint = did_you_mean(name, known) or f"; expected one of {', '.join(known)}"
        raise AccelError(f"cpu: unable to find CPU model '{name}'{hint}; take features away from host for a smaller one")
    added: set[str] = set()
    removed: set[str] = set()
    for word in filter(None, words):
        feature, wanted = _switch(word)
        if feature in SWITCHES:
            if SWITCHES[feature] not in (None, wanted):
                raise AccelError(f"cpu: {word}: not supported; remove it")
            continue
        (added if wanted else removed).add(feature)
        (removed if wanted else added).discard(feature)
    return CpuChoice(MODELS.get(name), frozenset(added), frozenset(removed))


def _switch(word: str) -> tuple[str, bool]:
    """A feature's name, and whether it is wanted: ``+avx``, ``-avx``, ``avx``, ``avx=on``."""
    name, _, value = word.partition("=")
    if value not in ("", "on", "off", "yes", "no", "true", "false"):
        raise AccelError(f"cpu: {word}: expected on or off")
    wanted = value not in ("off", "no", "false")
    if name[:1] in "+-":
        wanted = name[0] == "+"
        name = name[1:]
    name = name.replace("_", "-")
    name = ALIASES.get(name, name)
    if name not in BITS and name not in SWITCHES:
        raise AccelError(f"cpu: there is no feature '{name}'{did_you_mean(name, BITS)}")
    return name, wanted


def check_host(choice: CpuChoice, leaves: Iterable[Leaf]) -> None:
    """:raises AccelError: a feature was added that the host does not have."""
    known = {(leaf.function, leaf.subleaf): leaf for leaf in leaves}
    for name in sorted(choice.added):
        (function, index, register), bit = BITS[name]
        leaf = known.get((function, index))
        if leaf is None or not getattr(leaf, register) & bit:
            raise AccelError(f"cpu: feature '{name}': KVM on this host cannot show it to a guest; remove it")


def choose(choice: CpuChoice, leaves: Iterable[Leaf]) -> Iterator[Leaf]:
    """Of a vCPU's LEAVES what the choice leaves of them."""
    shown = None if choice.model is None else {*choice.model.features.split(), *choice.added}
    hidden = set(choice.removed)
    if "xsave" in hidden or (shown is not None and "xsave" not in shown):
        hidden |= {"xsave", "avx", "avx2", "f16c", "fma"}
    for leaf in leaves:
        if leaf.function == 0xD and "xsave" in hidden:
            continue  # nothing to save
        narrowed = _narrow(leaf, shown, hidden)
        if shown is None or leaf.function in _KEPT or _has_features(narrowed):
            yield _disguise(narrowed, choice.model) if choice.model is not None else narrowed


def _narrow(leaf: Leaf, shown: set[str] | None, hidden: set[str]) -> Leaf:
    """A leaf with those bits of its features that are left; a model of few features shows no bit without a name."""
    changes = {}
    for (function, index, register), names in WORDS.items():
        if (function, index) != (leaf.function, leaf.subleaf):
            continue
        mask = 0 if shown is not None else 0xFFFF_FFFF
        for number, name in enumerate(names.split()):
            if name in hidden:
                mask &= ~(1 << number)
            elif shown is not None and name in shown:
                mask |= 1 << number
        if shown is not None and (function, register) == (0x80000001, "edx"):
            mask |= 0x0183_F3FF  # AMD's copies of function 1's bits, which these models all have
        changes[register] = getattr(leaf, register) & mask
    return leaf._replace(**changes) if changes else leaf


def _has_features(leaf: Leaf) -> bool:
    return any(getattr(leaf, r) for f, i, r in WORDS if (f, i) == (leaf.function, leaf.subleaf))


def _disguise(leaf: Leaf, model: Model) -> Leaf:
    """A leaf with the model's family and name."""
    if leaf.function == 1:
        return leaf._replace(eax=model.signature)
    if 0x80000002 <= leaf.function <= 0x80000004:
        piece = model.brand.encode().ljust(48, b"\0")[16 * (leaf.function - 0x80000002) :][:16]
        registers = {
            name: int.from_bytes(piece[4 * n : 4 * n + 4], "little") for n, name in enumerate(("eax", "ebx", "ecx", "edx"))
        }
        return leaf._replace(**registers)
    return leaf
