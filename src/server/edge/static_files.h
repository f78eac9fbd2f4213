/* The page's files. Every tier that a person may open in a browser describes itself: /openapi.json, and
 * /docs, which lays it out; a tier without the page redirects / there. The link is links.h's link_serve_file.
 */
#pragma once

/* Whose files: they differ in / and in /openapi.json. */
enum web_tier { WEB_FRONTEND, WEB_GATEWAY, WEB_BACKEND };
