"""What is written in a figure, and that all of it lies on the canvas."""

from matplotlib.text import Text


def texts_of(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def assert_nothing_cut(figure):
    """The bounding box of all that is drawn lies within the canvas, give or take a hundredth of an inch."""
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0) > -0.01
    assert box.x1 < width + 0.01
    assert box.y1 < height + 0.01
