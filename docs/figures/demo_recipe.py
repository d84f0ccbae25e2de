"""Draw docs/figures/demo_recipe.png from the two tables beside it: ``python docs/figures/demo_recipe.py``."""

from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from eval.style import OTHER_COLOURS, STYLE

HERE = Path(__file__).parent
COLOURS = {"all utterances": "#0072B2", "one change": "#8a8a8a", "utterances of 1 s and more": "#D55E00"}
NAMED = {
    "seven convolutions": (4, -3),
    "three convolutions": (4, -3),
    "lr 5e-4": (4, -3),
}
"""Variants labelled in the figure, and by how many points the label is moved."""
MFCC = {"abx_across": 19.2, "pnmi": 0.500}


def draw() -> Figure:
    """PNMI against ABX of the pretraining trials; sBLIMP of the phone topline by steps and text."""
    trials = pd.read_csv(HERE / "demo_recipe_pretraining.csv")
    topline = pd.read_csv(HERE / "demo_recipe_topline.csv")
    figure = Figure(figsize=(6.5, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for group, colour in COLOURS.items():
        of_group = trials[(trials["group"] == group) & (trials["abx_across"] < 40)]
        sizes = of_group["steps"] / 120
        left.scatter(of_group["abx_across"], of_group["pnmi"], s=sizes, color=colour, label=group, alpha=0.85, lw=0)
        for _, trial in of_group.iterrows():
            if trial["variant"] in NAMED:
                left.annotate(
                    trial["variant"],
                    (trial["abx_across"], trial["pnmi"]),
                    xytext=NAMED[trial["variant"]],
                    textcoords="offset points",
                    fontsize=7.5,
                )
    left.scatter(MFCC["abx_across"], MFCC["pnmi"], marker="*", color="#222222", s=45)
    left.annotate("MFCC", (MFCC["abx_across"], MFCC["pnmi"]), xytext=(5, -3), textcoords="offset points", fontsize=7.5)
    left.set_xlabel("ABX error across speakers, layer 1 (%)")
    left.set_ylabel("PNMI of 50 K-means units, layer 1")
    left.set_xlim(10, 36)
    left.legend(
        fontsize=7.5,
        loc="center right",
        bbox_to_anchor=(1, 0.68),
        title="dots by steps, 2,000 to 4,000",
        title_fontsize=7.5,
    )
    for colour, (text, curve) in zip(OTHER_COLOURS, topline.groupby("text", sort=False), strict=False):
        right.plot(curve["steps"], 100 * curve["sblimp"], marker="o", color=colour, label=text)
    right.axhline(50, color="#8a8a8a", lw=0.8, ls=":")
    right.set_ylim(24, 101)
    right.set_xlabel("training steps of 1,024 tokens")
    right.set_ylabel("sBLIMP of the phone topline (%)")
    right.legend(fontsize=7.5, loc="lower right", title="sentences; share of documents", title_fontsize=7.5)
    return figure


if __name__ == "__main__":
    with mpl.rc_context(STYLE):
        draw().savefig(HERE / "demo_recipe.png", dpi=200)
