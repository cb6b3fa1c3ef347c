"""A post's JSON as Instagram's tools write it, in the older (GraphQL) and the newer (API) form, as a RawPost."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from assay.corpora import cells
from assay.corpora.base import RawPost

WRAPPERS = ("node", "GraphImages", "graphql", "data", "items", "media", "shortcode_media", "xdt_shortcode_media")
SIGNS = (
    *("shortcode", "code", "display_url", "edge_media_to_caption", "taken_at", "taken_at_timestamp", "is_video"),
    *("image_versions2", "carousel_media", "media_type", "caption", "thumbnail_src", "edge_sidecar_to_children"),
)
NOT_POSTS = ("Profile", "Hashtag", "TopSearchResults", "CompositeSearchResults")
COMMENTS = ("edge_media_to_parent_comment", "edge_media_to_comment", "comment_count")
_OF_OWNER = re.compile(r"(\d+)_\d+")


def nodes(found: Any) -> list[Any]:
    """The posts of a JSON file, out of whatever its downloader wrapped around them."""
    for _ in range(len(WRAPPERS)):
        if isinstance(found, list):
            return [inner for one in found for inner in nodes(one)]
        if not isinstance(found, dict):
            break
        wrapper = next((name for name in WRAPPERS if isinstance(found.get(name), dict | list)), None)
        if wrapper is None or (wrapper == "media" and is_post(found)):
            break
        found = found[wrapper]
    return [found]


def is_post(node: Any) -> bool:
    """Whether a JSON object is a post, and not a profile, a comment or a hashtag."""
    return isinstance(node, dict) and any(node.get(name) is not None for name in SIGNS) and "biography" not in node


def post_of(node: dict[str, Any]) -> RawPost:
    """The post of a node; fields that are there and cannot be read are named in `lost`."""
    inner = node.get("iphone_struct")
    if isinstance(inner, dict):  # instaloader keeps the newer form inside of the older
        node = inner | {name: value for name, value in node.items() if value is not None}
    lost: cells.Lost = []
    owner = _dict(node.get("owner")) or _dict(node.get("user"))
    tagged = [_dict(_dict(edge).get("node")) for edge in _edges(node, "edge_media_to_tagged_user")]
    tagged += [_dict(one) for one in _list(_dict(node.get("usertags")).get("in"))]
    sponsors = [_dict(_dict(_dict(e).get("node")).get("sponsor")) for e in _edges(node, "edge_media_to_sponsor_user")]
    sponsors += [_dict(_dict(one).get("sponsor")) for one in _list(node.get("sponsor_tags"))]
    users = [*(_dict(one.get("user")).get("username") for one in tagged), *(one.get("username") for one in sponsors)]
    taken = next((node[name] for name in ("taken_at_timestamp", "taken_at", "date") if node.get(name)), None)
    comments = _count(
        node, ("edge_media_to_parent_comment", "edge_media_to_comment", "comment_count"), "comments", lost
    )
    author = owner.get("username") or owner.get("id") or owner.get("pk")
    return RawPost(
        post_id=_identifier(node),
        text=_caption(node, lost),
        author=None if author is None else str(author),
        created_at=cells.moment(cells.flat(taken), "created_at", lost),
        handles=[str(user) for user in users if user],
        sponsored=True if sponsors or node.get("is_paid_partnership") is True else None,
        likes=_count(node, ("edge_media_preview_like", "edge_liked_by", "like_count"), "likes", lost),
        comments=comments,
        lost=lost,
    )


def picture_names(node: dict[str, Any]) -> list[str]:
    """The names that the pictures of a post have at their addresses, as some downloaders save them."""
    addresses: list[Any] = [*_list(node.get("urls")), node.get("display_url")]
    for one in (node, *_list(node.get("carousel_media"))):
        candidates = _list(_dict(_dict(one).get("image_versions2")).get("candidates"))
        addresses += [_dict(candidates[0]).get("url")] if candidates else []
    found = []
    for address in addresses:
        try:
            name = urlsplit(address).path.rpartition("/")[2] if isinstance(address, str) else ""
        except ValueError:
            continue
        if name and name not in found:
            found.append(name)
    return found


def _identifier(node: dict[str, Any]) -> str:
    for name in ("pk", "id", "shortcode", "code"):
        value = node.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            whole = _OF_OWNER.fullmatch(str(value))  # the newer form puts the owner's number behind it
            return whole[1] if whole else str(value)
    return ""


def _caption(node: dict[str, Any], lost: cells.Lost) -> str | None:
    edges = _edges(node, "edge_media_to_caption")
    given = [_dict(_dict(edge).get("node")).get("text") for edge in edges]
    caption = node.get("caption")
    given += [caption.get("text") if isinstance(caption, dict) else caption]
    for one in given:
        if isinstance(one, str):
            return one
    odd = next((one for one in (*given, caption, edges) if one), None)
    if odd is not None:
        lost.append(("unreadable_caption", repr(odd)[:120]))
    return None


def _count(node: dict[str, Any], names: tuple[str, ...], name: str, lost: cells.Lost) -> int | None:
    for one in names:
        value = node.get(one)
        if isinstance(value, dict):
            value = value.get("count")
        if value is not None:
            if value == -1:  # hidden by the author
                return None
            return cells.whole(cells.flat(value), name, lost)
    return None


def _edges(node: dict[str, Any], name: str) -> list[Any]:
    return _list(_dict(node.get(name)).get("edges"))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
