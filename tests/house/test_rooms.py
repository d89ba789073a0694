"""The plan of the house: a room imports only rooms before it, files go in no circle, the page shows what is there."""

from graphlib import TopologicalSorter

import rooms


def test_every_module_lies_in_a_room():
    assert {name.split(".")[1] for name in rooms.modules() if name != "uad"} == set(rooms.ROOMS)


def test_a_room_imports_only_rooms_before_it():
    order = rooms.ROOMS.index
    assert {(room, other) for room, other in rooms.arrows() if order(other) > order(room)} == set()


def test_files_go_in_no_circle():
    known = rooms.modules()
    graph = {name: rooms.imports(path, known, for_types=False) - {name} for name, path in known.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(known)  # raises CycleError


def test_the_page_shows_the_rooms():
    page = rooms.PAGE.read_text()
    assert rooms.drawn(page) == page, "run `python tools/rooms.py`"
    assert all(f"| `{room}` |" in page for room in rooms.ROOMS)
