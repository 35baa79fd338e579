"""What a compromised agent, a second agent, or a tampered store cannot do to a vault."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import numpy as np
import pytest

from holdfast.adapters.object_store.memory import MemoryStore
from holdfast.errors import AccessError, ConflictError, HoldfastError, IntegrityError
from holdfast.testing.little_agent import A_DAY, BackupRun, LittleAgent
from holdfast.testing.ports import MovableClock, SeededRandom
from holdfast.vaultstore.grant import SessionGrant
from holdfast.vaultstore.ids import ChunkKind, chunk_name
from holdfast.vaultstore.pack import PackBuilder, PackClass
from holdfast.vaultstore.root import Root, Stream, encode_root
from holdfast.vaultstore.seal import CODEC_RAW
from holdfast.vaultstore.values import CommitRequest, PointFacts, Unlock, VaultIds, VaultOptions
from holdfast.vaultstore.vault import MissingChunksError, Vault

PLATFORM_KEY = bytes(range(32))
IDS = VaultIds(vault_id=b"V" * 16, domain_id=b"D" * 16)
OPTIONS = VaultOptions(pack_target_bytes=64 * 1024, reserve_bytes=0, probe=False)
SECRET = {b"secret": SeededRandom(4).token(9000)}
FACTS = PointFacts(time=A_DAY)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def vault(store: MemoryStore) -> Vault:
    rng = SeededRandom(1)
    return Vault.create(
        store, PLATFORM_KEY, ids=IDS, options=OPTIONS, clock=MovableClock(), rng=rng
    )


@pytest.fixture
def victim(vault: Vault) -> LittleAgent:
    agent = LittleAgent(vault, SeededRandom(2), "Linux;victim")
    agent.back_up(SECRET)
    return agent


@pytest.fixture
def thief(vault: Vault, victim: LittleAgent) -> BackupRun:
    agent = LittleAgent(vault, SeededRandom(3), "Linux;thief")
    grant = vault.begin_session("backup", agent.container, agent.item_key, b"T" * 16)
    return BackupRun(agent, grant)


def pack_of(
    grant: SessionGrant,
    kind: ChunkKind,
    plain: bytes,
    name: bytes | None = None,
    pack_id: bytes = b"P" * 16,
):
    content = kind in (ChunkKind.DATA, ChunkKind.BUNDLE)
    pack_class = PackClass.FILES if content else PackClass.PAGES
    builder = PackBuilder(grant, pack_class)
    builder.begin(pack_id)
    name = name or chunk_name(grant.id_keys, kind, plain)
    slot = builder.reserve(kind, name, len(plain), len(plain), CODEC_RAW)
    assert slot is not None
    builder.seal(slot, plain)
    return builder.finish()


def send(vault: Vault, session_id: bytes, data: bytes, pack_id: bytes = b"P" * 16) -> bytes:
    receiver = vault.start_pack(session_id, pack_id, len(data))
    receiver.write(data)
    return receiver.finish()


def test_lookups_are_silent_about_other_containers(thief: BackupRun, vault: Vault) -> None:
    """Even with the right proof: until chunks are verified, only one's own are offered."""
    content = SECRET[b"secret"][:4096]
    name = chunk_name(thief.grant.id_keys, ChunkKind.DATA, content)
    assert vault.lookup(thief.grant.session_id, name) == b"\0"
    assert vault.lookup(thief.grant.session_id, name[:32] + bytes(16)) == b"\0"


def test_presence_is_told_only_to_who_holds_the_content(victim: LittleAgent, vault: Vault) -> None:
    """The id alone is not enough, not even for one's own container."""
    grant = vault.begin_session("backup", victim.container, victim.item_key, b"O" * 16)
    name = chunk_name(grant.id_keys, ChunkKind.DATA, SECRET[b"secret"][:4096])
    guessed = name[:32] + bytes(16)
    assert vault.lookup(grant.session_id, name + guessed + name) == b"\1\0\1"


def test_a_foreign_chunk_cannot_be_committed(thief: BackupRun) -> None:
    """A root that names a stolen page id is refused as missing, with or without knowing it."""
    thief.asks = False
    whole = thief.send(SECRET)
    thief.receipts.clear()
    request = CommitRequest(receipts=(), root_id=whole, facts=FACTS)
    with pytest.raises(MissingChunksError) as missing:
        thief.agent.vault.commit(thief.grant.session_id, request)
    assert missing.value.missing == [whole]


def test_a_root_over_the_victims_pages_is_refused(
    thief: BackupRun, vault: Vault, victim: LittleAgent
) -> None:
    point = vault.recovery_points(victim.item_key)[0]
    page = vault.root(point.rp_id).file_tree.page_root
    stream = Stream(name="files", kind="file-tree", page_root=page, logical_bytes=9000, entries=1)
    plain = encode_root(Root(streams=(stream,)))
    receipt = send(vault, thief.grant.session_id, pack_of(thief.grant, ChunkKind.ROOT, plain).data)
    root_id = chunk_name(thief.grant.id_keys, ChunkKind.ROOT, plain)[:32]
    request = CommitRequest(receipts=(receipt,), root_id=root_id, facts=FACTS)
    with pytest.raises(MissingChunksError) as missing:
        vault.commit(thief.grant.session_id, request)
    assert missing.value.missing == [page]


def test_a_restore_reads_its_own_points_only(
    thief: BackupRun, vault: Vault, victim: LittleAgent
) -> None:
    own = thief.commit(thief.send({b"mine": b"m" * 100}), FACTS)
    reading = vault.begin_session(
        "restore", "Linux;thief", own.item_key, b"R" * 16, pins=[own.rp_id]
    )
    stolen = vault.recovery_points(victim.item_key)[0]
    with pytest.raises(AccessError) as refused:
        vault.locate(reading.session_id, stolen.root_id)
    assert refused.value.code == "ChunkNotInRecoveryPoint"
    theirs = vault.begin_session(
        "restore", victim.container, victim.item_key, b"S" * 16, pins=[stolen.rp_id]
    )
    where = vault.locate(theirs.session_id, stolen.root_id)[0]
    with pytest.raises(AccessError):
        vault.read_frames(reading.session_id, where.pack, [where.frame])
    with pytest.raises(AccessError):
        vault.read_frames(theirs.session_id, where.pack, [where.frame, 999])
    assert b"".join(vault.read_frames(theirs.session_id, where.pack, [where.frame]))


def test_receipts_are_bound_to_service_session_and_bytes(thief: BackupRun, vault: Vault) -> None:
    thief.send({b"mine": b"m" * 100})
    receipt = thief.receipts[0]
    other = vault.begin_session("backup", "Linux;thief", "Linux;thief/FileFolder;x", b"U" * 16)
    forged = bytearray(receipt)
    forged[20] ^= 1
    for session_id, data in [
        (other.session_id, receipt),
        (thief.grant.session_id, bytes(forged)),
        (thief.grant.session_id, receipt[:-1]),
        (thief.grant.session_id, b""),
    ]:
        with pytest.raises(AccessError) as refused:
            vault.checkpoint(session_id, [data])
        assert refused.value.code == "ReceiptRefused"
    vault.checkpoint(thief.grant.session_id, [receipt])


def test_packs_of_other_sessions_or_keys_are_refused(thief: BackupRun, vault: Vault) -> None:
    grant = thief.grant
    other = vault.begin_session("backup", "Linux;thief", "Linux;thief/FileFolder;x", b"U" * 16)
    foreign = pack_of(other, ChunkKind.DATA, b"x" * 200).data
    wrong_key = msgspec.structs.replace(grant, session_key=b"k" * 32)
    wrong_wrap = msgspec.structs.replace(grant, wrapped_session_key=other.wrapped_session_key)
    for data in (
        foreign,
        pack_of(wrong_key, ChunkKind.DATA, b"x" * 200).data,
        pack_of(wrong_wrap, ChunkKind.DATA, b"x" * 200).data,
    ):
        with pytest.raises(IntegrityError):
            send(vault, grant.session_id, data)
    good = pack_of(grant, ChunkKind.DATA, b"x" * 200).data
    with pytest.raises(IntegrityError):
        send(vault, grant.session_id, good, pack_id=b"Q" * 16)
    with pytest.raises(HoldfastError):
        vault.start_pack(grant.session_id, b"P" * 16, len(good)).finish()
    receipt = send(vault, grant.session_id, good)
    assert send(vault, grant.session_id, good) == receipt
    with pytest.raises(ConflictError) as exists:
        send(vault, grant.session_id, pack_of(grant, ChunkKind.DATA, b"y" * 200).data)
    assert exists.value.code == "PackExists"


def test_nothing_is_left_of_a_refused_pack(
    thief: BackupRun, vault: Vault, store: MemoryStore
) -> None:
    before = set(store.objects)
    data = bytearray(pack_of(thief.grant, ChunkKind.DATA, b"x" * 200).data)
    data[len(data) // 2] ^= 1
    with pytest.raises(IntegrityError):
        send(vault, thief.grant.session_id, bytes(data))
    assert set(store.objects) == before


@pytest.mark.parametrize("kind", [ChunkKind.DATA, ChunkKind.BUNDLE])
def test_user_data_never_passes_for_a_page(thief: BackupRun, vault: Vault, kind: ChunkKind) -> None:
    """A file, or a bundle of small files, whose bytes are a page has another id; a root naming it
    as a page is refused."""
    page_like = b"L\x01\x00\x00\x00\x00"
    thief.receipts.append(
        send(
            vault,
            thief.grant.session_id,
            pack_of(thief.grant, kind, page_like, pack_id=b"D" * 16).data,
            b"D" * 16,
        )
    )
    data_id = chunk_name(thief.grant.id_keys, kind, page_like)[:32]
    page_id = chunk_name(thief.grant.id_keys, ChunkKind.FILE_PAGE, page_like)[:32]
    assert data_id != page_id
    stream = Stream(name="files", kind="file-tree", page_root=data_id, logical_bytes=1)
    plain = encode_root(Root(streams=(stream,)))
    receipt = send(vault, thief.grant.session_id, pack_of(thief.grant, ChunkKind.ROOT, plain).data)
    root_id = chunk_name(thief.grant.id_keys, ChunkKind.ROOT, plain)[:32]
    request = CommitRequest(receipts=(*thief.receipts, receipt), root_id=root_id, facts=FACTS)
    with pytest.raises(IntegrityError) as refused:
        vault.commit(thief.grant.session_id, request)
    assert refused.value.code == "ChunkKindWrong"


def test_a_page_under_a_false_name_is_refused_at_commit(thief: BackupRun, vault: Vault) -> None:
    stream = Stream(name="files", kind="file-tree", page_root=b"i" * 32, logical_bytes=1)
    plain = encode_root(Root(streams=(stream,)))
    false_name = b"i" * 32 + b"p" * 16
    pack = pack_of(thief.grant, ChunkKind.ROOT, plain, name=false_name)
    receipt = send(vault, thief.grant.session_id, pack.data)
    request = CommitRequest(receipts=(receipt,), root_id=false_name[:32], facts=FACTS)
    with pytest.raises(IntegrityError) as refused:
        vault.commit(thief.grant.session_id, request)
    assert refused.value.code == "ChunkForged"


def test_poison_of_one_container_does_not_reach_another(vault: Vault, victim: LittleAgent) -> None:
    """A chunk under a guessed id is never offered to others, and theirs stays readable."""
    content = SeededRandom(8).token(3000)
    agent = LittleAgent(vault, SeededRandom(3), "Linux;thief")
    grant = vault.begin_session("backup", agent.container, agent.item_key, b"T" * 16)
    guessed = chunk_name(grant.id_keys, ChunkKind.DATA, content)
    poison = pack_of(grant, ChunkKind.DATA, b"!" * 3000, name=guessed)
    vault.checkpoint(grant.session_id, [send(vault, grant.session_id, poison.data)])
    record = victim.back_up({b"f": content}, time=A_DAY + timedelta(days=1))
    assert victim.restore(record.rp_id) == {b"f": content}


def test_sessions_do_only_what_their_kind_allows(vault: Vault, victim: LittleAgent) -> None:
    point = vault.recovery_points(victim.item_key)[0]
    reading = vault.begin_session(
        "restore", victim.container, victim.item_key, b"R" * 16, pins=[point.rp_id]
    )
    assert reading.session_key == b""
    assert reading.root_id == point.root_id
    for forbidden in (
        lambda: vault.start_pack(reading.session_id, b"P" * 16, 5000),
        lambda: vault.lookup(reading.session_id, b""),
        lambda: vault.checkpoint(reading.session_id, []),
    ):
        with pytest.raises(ConflictError) as refused:
            forbidden()
        assert refused.value.code == "SessionKindWrong"
    with pytest.raises(ConflictError):
        vault.lookup(b"?" * 16, b"")


@pytest.mark.parametrize("room", ["log", "tables", "refsets", "keyring", "descriptor", "packs"])
def test_no_flipped_bit_is_silent(
    vault: Vault, victim: LittleAgent, store: MemoryStore, room: str
) -> None:
    """Each object of each kind, a bit flipped at several places: refused, or named, or harmless;
    never other content."""
    whole = dict(store.objects)
    rng = np.random.default_rng(5)
    prefix = next(iter(whole)).partition("/")[0]
    rp_id = vault.recovery_points()[0].rp_id
    for key in [key for key in whole if key.startswith(f"{prefix}/{room}")]:
        for at in rng.integers(0, len(whole[key]), 6).tolist():
            data = bytearray(whole[key])
            data[at] ^= 1 << int(rng.integers(0, 8))
            store.objects = {**whole, key: bytes(data)}
            try:
                opened = Vault.open(
                    store,
                    IDS.vault_id,
                    Unlock(platform_key=PLATFORM_KEY),
                    clock=MovableClock(),
                    rng=SeededRandom(6),
                )
            except HoldfastError:
                assert room in ("log", "keyring", "descriptor")
                continue
            assert [damage.key for damage in opened.verify().damages] == [key[len(prefix) + 1 :]]
            try:
                agent = LittleAgent(opened, SeededRandom(2), "Linux;victim")
                assert agent.restore(rp_id) == SECRET
            except HoldfastError:
                assert room == "packs"


def test_a_swapped_descriptor_is_refused(vault: Vault, store: MemoryStore) -> None:
    key = next(key for key in store.objects if key.endswith("/descriptor"))
    other = MemoryStore()
    Vault.create(
        other,
        PLATFORM_KEY,
        ids=IDS,
        options=msgspec.structs.replace(OPTIONS, zstd_level=19),
        clock=MovableClock(),
        rng=SeededRandom(9),
    )
    store.objects[key] = other.objects[key]
    with pytest.raises(IntegrityError):
        Vault.open(
            store,
            IDS.vault_id,
            Unlock(platform_key=PLATFORM_KEY),
            clock=MovableClock(),
            rng=SeededRandom(6),
        )
