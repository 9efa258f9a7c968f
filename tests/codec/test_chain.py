"""The table of codecs and transforms: what may be inside of what, and nobody else who says so."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from jpegs import scene, through_jpeg

from archiver.codec import classic, tiles
from archiver.codec.ids import Encoded, TileCodec
from archiver.codec.transforms import chain
from archiver.codec.transforms.chain import TABLE, Chain, Outline, Transform
from archiver.codec.transforms.delta import CHANNELS, Base, Delta
from archiver.codec.transforms.from_jpeg.collage import FromJpegs
from archiver.codec.transforms.ordered import Ordered
from archiver.codec.transforms.orientation import IMPLIED, Orientation
from archiver.codec.transforms.repeated import Repeated
from archiver.codec.transforms.scale_offset import ScaleOffset
from archiver.errors import FormatError, IntegrityError

PACKAGE = Path(chain.__file__).parents[2]
LATER = (16, 99, 255)  # ids of later releases
IDS = [*TileCodec, *LATER]
TRANSFORMS = {codec: kind.transform for codec, kind in TABLE.items() if kind.transform}

# What no reader takes, in the ids of FORMAT.md: of each codec that holds another one, which not.
REFUSED = {
    5: {5, 7, 8},
    8: {7, 8},
    9: {5, 7, 8, 9, 10, 13, 14},
    10: {5, 7, 8, 9, 10, 13, 14},
    13: {5, 7, 8, 9, 10, 13, 14},
    14: {5, 7, 8, 9, 10, 13, 14},
    11: {*range(256)} - {4},  # no byte says what is inside
    12: {*range(256)} - {6},
}


def wave(scale: float = 1) -> np.ndarray:
    """Return numbers with structure and noise, some hundred different ones."""
    row, column, _ = np.mgrid[0:40, 0:36, 0:1]
    noise = np.random.default_rng(3).normal(0, 1, row.shape)
    return np.rint(scale * (900 + 300 * np.sin(row / 9) * np.cos(column / 7) + noise))


def side_by_side() -> np.ndarray:
    """Return a tile that two JPEGs were put together in."""
    left = through_jpeg(scene(sides=(96, 96)), 85)[3:91, 5:93]
    right = through_jpeg(scene(sides=(96, 96), seed=2), 70, subsampling=0)[1:89, 2:90]
    return np.hstack([left, right])


TILES = {
    TileCodec.DELTA: lambda: np.concatenate([wave(20), wave(20) + 3, wave(20) - 9], -1).astype(
        "u2"
    ),
    TileCodec.REPEATED: lambda: np.repeat(wave(), 3, 2).astype("i2"),
    TileCodec.FROM_JPEG: lambda: through_jpeg(scene(sides=(96, 104)), 60)[3:, 5:].copy(),
    TileCodec.FROM_JPEGS: side_by_side,
    TileCodec.SCALE_OFFSET: lambda: np.where(wave() > 1000, np.nan, wave() / 10).astype("f4"),
    TileCodec.ORDERED: lambda: (wave() * np.float32(0.0372)).astype("f4"),
    TileCodec.LEARNED_ORIENTED: lambda: np.concatenate([wave(), wave() + 1, -wave()], -1).astype(
        "u1"
    ),
    TileCodec.ADAPTED_ORIENTED: lambda: wave().astype("u2"),
}
FOUND = {  # transforms that a tile suggests by itself
    TileCodec.REPEATED: Repeated.find,
    TileCodec.FROM_JPEG: FromJpegs.find,  # one, where it is a whole one
    TileCodec.FROM_JPEGS: FromJpegs.find,
    TileCodec.SCALE_OFFSET: ScaleOffset.find,
    TileCodec.ORDERED: Ordered.find,
}
GIVEN = {  # the others
    TileCodec.DELTA: Delta(Base(CHANNELS, 64)),
    TileCodec.LEARNED_ORIENTED: Orientation(37),
    TileCodec.ADAPTED_ORIENTED: Orientation(6),
}


@cache
def example(codec: TileCodec) -> tuple[np.ndarray, Transform, np.ndarray]:
    """Return a tile, a transform that may be the outermost of it, and what is inside."""
    tile = TILES[codec]()
    if codec in GIVEN:
        return tile, GIVEN[codec], GIVEN[codec].forward(tile)
    transform, inside = FOUND[codec](tile) or pytest.fail("nothing found")
    assert type(transform) is TRANSFORMS[codec]
    return tile, transform, inside


def test_the_table_has_every_id_once_and_an_example_of_every_transform() -> None:
    """Whoever adds a line has it tested below."""
    assert set(TABLE) == set(TileCodec)
    assert set(TILES) == set(TRANSFORMS)
    assert set(chain.BY_MODEL) == {TileCodec.LEARNED, TileCodec.ADAPTED}


def test_ranks_strictly_fall_whatever_is_inside() -> None:
    """All pairs: what is inside has a lower rank, and what has a lower rank may be inside."""
    for outer, inner in product(TABLE, TABLE):
        falls = TABLE[outer].transform is not None and TABLE[inner].rank < TABLE[outer].rank
        if TABLE[outer].holds is None:
            assert chain.may_hold(outer, inner) == falls
        else:
            assert chain.may_hold(outer, inner) == (inner == TABLE[outer].holds)
            assert falls or inner != TABLE[outer].holds


def test_what_readers_refuse_has_not_changed() -> None:
    """All pairs against the ids that FORMAT.md lists; ids of later releases are not refused."""
    for outer, inner in product(TileCodec, range(256)):
        is_refused = inner in REFUSED.get(outer, range(256))
        assert chain.may_hold(outer, inner) != is_refused, (outer, inner)


def test_chains_end() -> None:
    """No tile has more transforms than there are ranks above a codec's."""

    def longest(outer: int) -> int:
        return 1 + max((longest(i) for i in TABLE if chain.may_hold(outer, i)), default=0)

    assert {codec: longest(codec) for codec in (TileCodec.DELTA, TileCodec.JPEG)} == {
        TileCodec.DELTA: 5,
        TileCodec.JPEG: 1,
    }
    assert max(map(longest, TABLE)) <= len(chain.Rank) - 1


@pytest.mark.parametrize("codec", TRANSFORMS, ids=lambda codec: codec.name)
class TestEveryTransform:
    """What the table promises of each line."""

    def test_it_comes_back(self, codec: TileCodec) -> None:
        """Forward and back gives the bits again; shape and type inside are as it says."""
        tile, transform, inside = example(codec)
        np.testing.assert_array_equal(transform.forward(tile), inside)
        shape, dtype = transform.inside(tile.shape, tile.dtype)
        assert (inside.shape, inside.dtype) == (shape, dtype)
        back = transform.back(inside, tile.dtype)
        assert (back.shape, back.dtype) == (tile.shape, tile.dtype)
        assert back.tobytes() == tile.tobytes()

    def test_its_bytes_say_all_of_it(self, codec: TileCodec) -> None:
        """What a payload begins with is read again, and the id inside is where it peeks."""
        tile, transform, inside = example(codec)
        head = transform.to_bytes(TileCodec.ZSTD)
        again, inner, rest = TRANSFORMS[codec].split(head + b"rest", tile.shape, tile.dtype)
        assert inner == (IMPLIED if TABLE[codec].holds else TileCodec.ZSTD)
        assert rest == b"rest"
        assert again.back(inside, tile.dtype).tobytes() == tile.tobytes()
        assert TRANSFORMS[codec].peek(memoryview(head + b"rest")) == (inner, len(head))

    @pytest.mark.parametrize("inner", IDS)
    def test_it_refuses_what_may_not_be_inside(self, codec: TileCodec, inner: int) -> None:
        """And wraps nothing that would be refused."""
        tile, transform, _ = example(codec)
        payload = transform.to_bytes(inner) + bytes(9)
        parse = chain.opened if codec is TileCodec.DELTA else Chain.of
        if TABLE[codec].holds is None and not chain.may_hold(codec, inner):
            with pytest.raises(IntegrityError, match=f"holds codec {inner} "):
                parse(codec, payload, tile.shape, tile.dtype)
        elif inner not in TRANSFORMS:
            parse(codec, payload, tile.shape, tile.dtype)
        if any(chain.may_hold(other, inner) for other in of_class(type(transform))):
            assert chain.wrapped(transform, Encoded(inner, bytes(9))).payload == payload
        else:
            with pytest.raises(ValueError, match="cannot hold"):
                chain.wrapped(transform, Encoded(inner, bytes(9)))

    def test_a_payload_without_anything_inside_is_damage(self, codec: TileCodec) -> None:
        """Whatever is left of it, an error of ours; an outline is there all the same."""
        tile, transform, _ = example(codec)
        whole = transform.to_bytes(TileCodec.STORED)
        for end in {0, 1, len(whole) // 2, len(whole) - 1} & set(range(len(whole))):
            parse = chain.opened if codec is TileCodec.DELTA else Chain.of
            with pytest.raises(IntegrityError):
                parse(codec, whole[:end], tile.shape, tile.dtype)
            assert Outline.of(codec, whole[:end]).nested[0] == codec


def of_class(kind: type) -> list[int]:
    """Return the ids of a transform."""
    return [codec for codec, transform in TRANSFORMS.items() if transform is kind]


def test_a_chain_of_all_ranks_is_undone() -> None:
    """Grey floats in RGB, as the difference to nothing: outline, links and samples agree."""
    grey = np.repeat(TILES[TileCodec.ORDERED](), 3, 2)
    repeated, distinct = Repeated.find(grey) or pytest.fail("not repeated")
    _, ordered, numbers = example(TileCodec.ORDERED)
    coded = Encoded(TileCodec.ZSTD, classic.encode_zstd(numbers))
    for transform in (ordered, repeated):
        coded = chain.wrapped(transform, coded)
    codecs = (TileCodec.REPEATED, TileCodec.ORDERED, TileCodec.ZSTD)
    assert Outline.of(coded.codec, coded.payload).nested == codecs
    parsed = Chain.of(coded.codec, coded.payload, grey.shape, grey.dtype)
    assert parsed.core == Encoded(TileCodec.ZSTD, classic.encode_zstd(numbers))
    assert [type(link.transform) for link in parsed.links] == [Repeated, type(ordered)]
    assert parsed.undo(parsed.decoded()).tobytes() == grey.tobytes()
    with pytest.raises(IntegrityError, match="inside came"):
        parsed.undo(distinct)


def test_a_delta_is_opened_first() -> None:
    """Its base may be another tile: a chain has none of it, an outline has."""
    tile, delta, left = example(TileCodec.DELTA)
    assert isinstance(delta, Delta)
    coded = chain.as_delta(delta.base, tiles.stored(left))
    assert Outline.of(coded.codec, coded.payload).nested == (TileCodec.DELTA, TileCodec.STORED)
    with pytest.raises(FormatError, match="delta"):
        Chain.of(coded.codec, coded.payload, tile.shape, tile.dtype)
    opened = chain.opened(coded.codec, coded.payload, tile.shape, tile.dtype)
    assert (opened.base, opened.dtype, opened.back) == (delta.base, np.dtype("u2"), 0)
    plain = chain.opened(opened.codec, opened.payload, tile.shape, tile.dtype)
    assert (plain.base, plain.payload) == (None, opened.payload)
    with pytest.raises(IntegrityError, match="3 before"):
        Delta(Base(3, 64)).back(left, tile.dtype)


def test_questions_are_answered_by_the_outline() -> None:
    """Of the codec inside all transforms, and of the transforms."""
    grey = np.full((4, 4, 3), 7, np.uint8)
    [flat] = tiles.encode([grey], None)
    outline = Outline.of(flat.codec, flat.payload)
    assert (outline.is_constant, outline.is_repeated, outline.needs_model) == (True, True, False)
    turned = chain.wrapped(Orientation(3), Encoded(TileCodec.ADAPTED, b""))
    outline = Outline.of(turned.codec, turned.payload)
    assert (outline.is_adapted, outline.needs_model, outline.is_constant) == (True, True, False)
    _, jpeg, _ = example(TileCodec.FROM_JPEG)
    outline = Outline.of(*vars(chain.wrapped(jpeg, Encoded(TileCodec.CONSTANT, b"abc"))).values())
    assert (outline.is_from_jpeg, outline.is_constant) == (True, False)


NAMES = {codec.name for codec in TRANSFORMS}
KNOW = {"codec/ids.py", "codec/transforms/chain.py"}
HAVE_LAYOUTS = ("codec/transforms/", "codec/jpeg/tile.py")  # the first bytes of their own payloads


def offences(tree: ast.Module, *, has_layouts: bool) -> Iterator[str]:
    """Yield what only `chain` may do: name the id of a transform, look for ids in payloads."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name("TileCodec"), attr=name) if name in NAMES:
                yield f"names TileCodec.{name}"
            case ast.Name(name) if name in {"TABLE", "may_hold", "Rank"}:
                yield f"uses {name}"
            case ast.Attribute(attr=name) if name in {"TABLE", "may_hold", "Rank", "nested"}:
                yield f"uses {name}"
            case ast.Compare() if any(is_id(side) for side in [node.left, *node.comparators]):
                if any(isinstance(side, ast.Constant) for side in [node.left, *node.comparators]):
                    yield f"compares with a number: {ast.unparse(node)}"
            case _ if has_layouts:
                pass
            case ast.Subscript(slice=ast.Constant(int()) | ast.UnaryOp()) if is_payload(node.value):
                yield f"reads {ast.unparse(node)}"
            case ast.Call(func=ast.Attribute(attr="peek")):
                yield f"calls {ast.unparse(node.func)}"


def is_id(node: ast.expr) -> bool:
    """Whether an expression is called like the id of a tile's codec."""
    words = ast.unparse(node).replace(".", "_").split("_")
    return isinstance(node, ast.Name | ast.Attribute) and words[-1] in {"codec", "inner"}


def is_payload(node: ast.expr) -> bool:
    """Whether an expression is called like a payload."""
    return isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node).endswith("payload")


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix()
)
def test_nobody_else_knows_what_is_inside(path: Path) -> None:
    """The package names ids of transforms, and looks for ids in payloads, in one place."""
    name = path.relative_to(PACKAGE).as_posix()
    has_layouts = name.startswith(HAVE_LAYOUTS)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wrong = [] if name in KNOW else list(offences(tree, has_layouts=has_layouts))
    assert not wrong, f"{name}: ask codec/transforms/chain.py"


@pytest.mark.parametrize(
    "line",
    [
        "if payload[0] == TileCodec.REPEATED: pass",
        "is_wrapped = codec in (TileCodec.DELTA, TileCodec.ORDERED)",
        "inner = coded.payload[0]",
        "last = payload[-1]",
        "if coded.codec == 5: pass",
        "if 8 != inner: pass",
        "inner, start = ScaleOffset.peek(payload)",
        "kind = chain.TABLE[codec]",
        "if Outline.of(codec, payload).nested[1]: pass",
    ],
)
def test_the_test_above_can_fail(line: str) -> None:
    assert list(offences(ast.parse(line), has_layouts=False))


@pytest.mark.parametrize(
    "line",
    ["if tile.codec == TileCodec.JPEG: pass", "size = len(payload)", "form = payload[:1]"],
)
def test_the_test_above_lets_pass_what_is_no_nesting(line: str) -> None:
    assert not list(offences(ast.parse(line), has_layouts=False))
