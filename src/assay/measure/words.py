"""What figures are called in plain words, and what they say: shown where a page names one."""

from __future__ import annotations

WORDS: dict[str, tuple[str, str]] = {
    "mae": (
        "mean absolute error",
        "how far the student is from the label on average, in points of the scale; 0 is best",
    ),
    "rmse": ("root mean squared error", "the same, but large errors count more; 0 is best"),
    "r2": ("share of variance explained (R²)", "1: all of the differences between posts are told; 0: none"),
    "pearson": ("Pearson correlation", "how far student and labels rise together along a line; 1 is best"),
    "spearman": ("rank correlation", "how far student and labels put the posts in the same order; 1 is best"),
    "within_0_5": ("within half a point", "share of posts whose prediction is at most 0.5 from the label"),
    "within_1": ("within 1 point", "share of posts whose prediction is at most 1 from the label"),
    "within_2": ("within 2 points", "share of posts whose prediction is at most 2 from the label"),
    "accuracy": ("accuracy", "share of posts that get the class of their label"),
    "f1_macro": ("F1, mean over names", "harmonic mean of precision and recall, each name counting alike; 1 is best"),
    "f1_weighted": ("F1, weighted", "the same, each class counting by its posts; 1 is best"),
    "f1_micro": (
        "F1, all answers together",
        "harmonic mean of precision and recall over all answers at once; 1 is best",
    ),
    "f1_macro_at_half": ("F1, mean, cut at 0.5", "F1 over names where a label is given from a probability of 0.5"),
    "f1_micro_at_half": ("F1, together, cut at 0.5", "F1 over all answers where a label is given from 0.5"),
    "auroc": ("ROC-AUC", "chance that a post of a class is ranked above one that is not in it; 0.5 is luck"),
    "auroc_macro": (
        "ROC-AUC, mean over labels",
        "chance that a post with a label is ranked above one without; 0.5 is luck",
    ),
    "average_precision": ("average precision", "precision over all cuts, mean over labels; luck is the label's share"),
    "exact_match": ("all labels right", "share of posts for which every label is as it should be"),
    "kappa_quadratic": ("weighted kappa", "agreement beyond luck, where far apart counts more (squared); 1 is best"),
    "rank_error": ("mean error in ranks", "how many ranks the student is off on average; 0 is best"),
    "corrected": ("corrected", "predictions shifted by how the labels differ from them, so that errors do not stay"),
    "uncorrected": ("uncorrected", "what the student says by itself, with all its errors"),
    "holds": ("holds", "how often the 90 % interval or set of a post holds its label; 0.90 is wanted"),
    "gain": ("worth so many times the labels", "how many times as many labels alone would give as narrow an interval"),
    "constant": ("constant", "the mean or the shares of the labels, the same for every post"),
    "text": ("text alone", "a linear model of the text's features"),
    "image": ("picture alone", "a linear model of the picture's features"),
    "both": ("linear probe", "a linear model of all features of the student"),
    "tfidf": ("words", "a linear model of words and pairs of words (TF-IDF)"),
    "student": ("student", "the model that reads all posts"),
    "teacher asked again": ("teacher asked again", "how well its second answer predicts its first"),
    "rank": ("rank", "the places that it may have; one place is decided"),
}


def plain(name: str) -> str:
    """A figure's name in plain words; the name itself where there are none."""
    return WORDS[name][0] if name in WORDS else name.replace("_", " ")


def explained(name: str) -> str:
    """What a figure says; nothing where that is not known."""
    return WORDS[name][1] if name in WORDS else ""
