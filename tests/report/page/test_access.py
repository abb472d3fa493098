"""The page for everyone: names, keyboard, small screens, contrast, themes and paper."""

import itertools

import numpy as np
import pytest


def accessible(view):
    """Roles and names as a screen reader has them."""
    session = view.context.new_cdp_session(view.tab)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    return [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n["ignored"]]


def test_every_control_and_every_figure_has_a_name(view):
    tree = accessible(view)
    controls = {"button", "checkbox", "slider", "spinbutton", "combobox", "searchbox", "link", "image", "img", "region"}
    assert [node for node in tree if node[0] in controls and not node[1].strip()] == []
    # The arrow beside it is not read out, as the header says how it is sorted.
    assert ("button", "Seed") in tree
    roles = [role for role, _ in tree]
    assert {"banner", "navigation", "main", "contentinfo"} <= set(roles)
    figures = view.tab.locator(".plot[role=img]")
    assert figures.count() == 9
    for i in range(figures.count()):
        described = figures.nth(i).get_attribute("aria-describedby")
        assert view.text(f"#{described}").strip()
    assert view.tab.locator("html").get_attribute("lang") == "en"
    names = [name for role, name in tree if role in {"slider", "spinbutton"}]
    assert len(names) == len(set(names)) == 10


def test_headings_leave_out_no_level(view):
    levels = view.tab.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(next_ - level <= 1 for level, next_ in itertools.pairwise(levels))


def test_the_keyboard_reaches_every_control_in_the_order_of_the_page_and_leaves_again(view):
    view.tab.fill("#runs-filter", "no such run")
    view.tab.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    focusable = view.tab.evaluate("""[...document.querySelectorAll('a, button, input, select, summary, [tabindex="0"]')]
        .filter((e) => e.checkVisibility()).map((e, i) => { e.dataset.order = i; return i; })""")
    view.tab.locator(".skip").focus()
    order = []
    for _ in focusable:
        place, outline, href = view.tab.evaluate("""(() => {
            const e = document.activeElement, s = getComputedStyle(e);
            const seen = s.outlineStyle !== 'none' && s.outlineWidth !== '0px';
            return [Number(e.dataset.order), seen, e.getAttribute('href')];
        })()""")
        order.append(place)
        assert outline, f"no visible focus on {place}"
        if not order[:-1]:
            assert href == "#main"
        view.tab.keyboard.press("Tab")
    assert order == focusable
    assert view.tab.evaluate(
        "document.activeElement.dataset.order === undefined || document.activeElement.dataset.order === '0'"
    )
    view.tab.fill("#runs-filter", "")


@pytest.mark.parametrize("clipboard", ["given", pytest.param("refused", marks=pytest.mark.exhaustive)])
def test_the_command_is_copied_whole(view, given, clipboard):
    view.context.grant_permissions(["clipboard-read", "clipboard-write"])
    refusal = "void (navigator.clipboard.writeText = () => Promise.reject(new Error('refused')))"
    view.tab.evaluate(refusal if clipboard == "refused" else "navigator.clipboard.writeText('nothing yet')")
    view.tab.click("#copy")
    view.until("document.getElementById('copied').textContent === 'Copied.'")
    view.tab.focus("#runs-filter")
    view.tab.keyboard.press("Control+V")
    assert view.tab.input_value("#runs-filter") == given["command"]
    view.tab.fill("#runs-filter", "")
    view.tab.evaluate("delete navigator.clipboard.writeText; document.getElementById('copied').textContent = ''")


def test_on_a_telephone_nothing_is_wider_than_the_screen(view):
    view.tab.set_viewport_size({"width": 360, "height": 740})
    view.settle()
    try:
        for details in view.tab.locator("details").all():
            details.evaluate("(e) => { e.open = true; }")
        # Resizing is slow to reach the last figure.
        view.until("[...document.querySelectorAll('.plot .main-svg')].every((s) => s.clientWidth <= 360)")
        assert view.tab.evaluate("document.documentElement.scrollWidth") == 360
        wide = """[...document.querySelectorAll('body *')]
            .filter((e) => e.checkVisibility() && !e.closest('.scroll *, .skip, .hidden, svg'))
            .filter((e) => e.getBoundingClientRect().right > 361)
            .map((e) => `${e.tagName} ${e.id} ${e.className}`)"""
        assert view.tab.evaluate(wide) == []
    finally:
        view.tab.set_viewport_size({"width": 1280, "height": 480})


def luminance(color):
    """Relative luminance of a colour such as rgb(1, 2, 3) (WCAG 2.2)."""
    channels = np.asarray([float(c) for c in color[color.index("(") + 1 : -1].split(",")[:3]]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


TEXTS = (
    "h1",
    ".question",
    "#sections a",
    "#answer-sentences p",
    "#answer-parts .outcome.better",
    ".protocol",
    ".verdict.better .size",
    ".verdict.worse .size",
    ".verdict:not(.better, .worse) .outcome",
    "#theme",
    "figcaption p",
    "th button",
    "td",
    "summary",
    "pre",
)


def colours(view):
    """The colours of texts, each with its ground, and of the lines and letters of a figure."""
    read = """(selectors) => {
        const own = (e) => getComputedStyle(e).backgroundColor;
        const ground = (e) => (own(e) === 'rgba(0, 0, 0, 0)' ? ground(e.parentElement) : own(e));
        const texts = selectors.map((s) => [s, document.querySelector(s)])
            .map(([s, e]) => [s, getComputedStyle(e).color, ground(e)]);
        const plot = document.getElementById('curves-plot');
        const lines = [...plot.querySelectorAll('.scatterlayer .js-line')].map((e) => getComputedStyle(e).stroke);
        const letters = getComputedStyle(plot.querySelector('.xtick text')).fill;
        return {texts, lines, letters, ground: getComputedStyle(document.body).backgroundColor};
    }"""
    return view.tab.evaluate(read, list(TEXTS))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out_from_their_ground_in_both_themes(view, scheme):
    view.tab.emulate_media(color_scheme=scheme)
    view.settle()
    seen = colours(view)
    assert (luminance(seen["ground"]) > 0.5) == (scheme == "light")
    for selector, color, ground in seen["texts"]:
        # WCAG 2.2: 4.5 for text (1.4.3), 3 for what is needed to understand a figure (1.4.11).
        assert contrast(color, ground) >= 4.5, selector
    assert contrast(seen["letters"], seen["ground"]) >= 4.5
    strokes = {line for line in seen["lines"] if line.startswith("rgb(")}
    assert len(strokes) >= 3
    assert min(contrast(line, seen["ground"]) for line in strokes) >= 3
    view.tab.emulate_media(color_scheme="light")


def test_the_button_changes_the_theme(view):
    # The choice of another test outlives it.
    view.tab.evaluate("sessionStorage.clear()")
    view.open()
    assert view.text("#theme") == "Dark theme"
    view.tab.click("#theme")
    assert view.text("#theme") == "Light theme"
    dark = colours(view)
    assert luminance(dark["ground"]) < 0.1
    assert contrast(dark["letters"], dark["ground"]) > 7
    view.tab.click("#theme")
    assert view.text("#theme") == "Dark theme"
    assert luminance(colours(view)["ground"]) > 0.9


@pytest.mark.exhaustive
def test_the_theme_outlives_a_reload_and_paper_is_white(view):
    light = colours(view)["ground"]
    view.tab.click("#theme")
    dark = colours(view)["ground"]
    view.open()
    assert colours(view)["ground"] == dark
    view.tab.emulate_media(media="print")
    view.tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    # What is folded on the screen is open on paper, and what is only for the screen is gone.
    assert not view.tab.locator("#verdicts-controls, .spelled, nav").filter(visible=True).count()
    assert view.tab.locator("#verdicts-sentences li").first.is_visible()
    assert view.tab.locator("#notes-list li").first.is_visible()
    assert view.tab.locator(".verdict").first.is_visible()
    assert contrast(colours(view)["letters"], light) > 7
    assert not view.tab.locator("#theme").is_visible()
    # What says which line is whose stays, and the runs fit the sheet.
    assert view.tab.locator("#curves-legend svg").first.is_visible()
    assert view.tab.evaluate("document.querySelector('#runs-table table').clientWidth <= document.body.clientWidth")
    view.tab.evaluate("dispatchEvent(new Event('afterprint'))")
    view.tab.emulate_media(media="screen")
    assert not view.tab.locator("#verdicts-sentences li").first.is_visible()
    view.tab.click("#theme")
    assert colours(view)["ground"] == light
