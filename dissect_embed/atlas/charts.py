"""The charts of the atlas in Vega-Lite: a map of units, a profile, a curve; the page fills them."""

from collections.abc import Sequence
from typing import Any

import altair as alt

# Apart in hue and lightness, and seen on white and on near black alike.
COLOURS = (
    "#c98500", "#3f9b0b", "#2e86d1", "#d9534f", "#9a6cc0", "#0fa39a", "#c0608f", "#8a8a8a",
)  # fmt: skip
# Units that overlap no concept.
NONE = "#8a8a8a"


def build_charts(categories: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the specifications of ``map``, ``profile`` and ``curve``, without data.

    Parameters
    ----------
    categories
        In the order of their colours.
    """
    named = alt.Data(name="values")
    charts = {"map": _map(named, categories), "profile": _profile(named), "curve": _curve(named)}
    return {name: chart.to_dict(validate=True) for name, chart in charts.items()}


def category_colours(categories: Sequence[str]) -> dict[str, str]:
    """Return the colour of each category; further ones begin again."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(categories)}


def _map(named: alt.Data, categories: Sequence[str]) -> alt.Chart:
    # The signals that the page sets: which unit is open, the IoU of a detector.
    opened, detector = alt.param("opened", value=-1), alt.param("detector", value=0.04)
    clicked = alt.selection_point(name="clicked", fields=["unit"], on="click", empty=False)
    zoom = alt.selection_interval(name="zoom", bind="scales")
    colours = category_colours(categories)
    scale = alt.Scale(domain=[*colours, "none"], range=[*colours.values(), NONE])
    is_open = "datum.unit === opened"
    place = alt.Axis(labels=False, ticks=False, grid=False, domain=False, title=None)
    # Room at the rim, or units there would be cut off.
    span = alt.Scale(domain=[-1.08, 1.08], nice=False)
    colour = alt.Color("category:N", scale=scale, legend=None)
    chart: alt.Chart = (
        alt.Chart(named, width="container", height=540)
        .mark_circle()
        .encode(
            x=alt.X("x:Q", scale=span, axis=place),
            y=alt.Y("y:Q", scale=span, axis=place),
            fill=alt.Fill("category:N", scale=scale, legend=None),
            stroke=colour,
            size=alt.condition(is_open, alt.value(320), alt.value(70)),
            fillOpacity=alt.condition(
                "datum.found && datum.iou >= detector", alt.value(0.85), alt.value(0.08)
            ),
            strokeWidth=alt.condition(is_open, alt.value(4), alt.value(1.5)),
            strokeOpacity=alt.condition("datum.found", alt.value(1), alt.value(0.15)),
            tooltip=[
                alt.Tooltip("name:N", title="unit"),
                alt.Tooltip("concept:N", title="best concept"),
                alt.Tooltip("category:N"),
                alt.Tooltip("iou:Q", title="IoU", format=".3f"),
            ],
        )
        .add_params(opened, detector, clicked, zoom)
    )
    return chart


def _profile(named: alt.Data) -> alt.TopLevelMixin:
    chance = alt.param("chance", value=0)
    # The page gives each bar its colour, and the chart its height.
    bars = (
        alt.Chart(named)
        .mark_bar(height={"band": 0.75})
        .encode(
            x=alt.X("iou:Q", title="IoU", axis=alt.Axis(tickCount=4)),
            y=alt.Y("concept:N", sort=None, title=None, axis=alt.Axis(labelLimit=150)),
            color=alt.Color("colour:N", scale=None),
            tooltip=[
                alt.Tooltip("concept:N"),
                alt.Tooltip("category:N"),
                alt.Tooltip("iou:Q", title="IoU", format=".4f"),
            ],
        )
    )
    line = (
        alt.Chart(named)
        .transform_calculate(bound="chance")
        .mark_rule(strokeDash=[4, 3])
        .encode(
            x=alt.X("max(bound):Q", title="IoU"),
            tooltip=alt.value("one in twenty draws is above"),
        )
    )
    layers = (bars, line)
    return alt.layer(*layers, width="container").add_params(chance)


def _curve(named: alt.Data) -> alt.Chart:
    scale = alt.Scale(domain=["this unit", "mean of the layer"], range=["#2e86d1", NONE])
    chart: alt.Chart = (
        alt.Chart(named, width="container", height=150)
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("epoch:Q", title="epoch"),
            y=alt.Y("kl:Q", title="KL, nats"),
            color=alt.Color("who:N", scale=scale, legend=alt.Legend(title=None, orient="top")),
            strokeDash=alt.StrokeDash("who:N", legend=None),
            tooltip=[
                alt.Tooltip("who:N", title="of"),
                alt.Tooltip("epoch:Q"),
                alt.Tooltip("kl:Q", title="KL", format=".4f"),
            ],
        )
    )
    return chart
