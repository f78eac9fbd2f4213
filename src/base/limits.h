/* Every limit on what comes from outside, by name, in one place. Sizes in bytes unless said. */
#pragma once

/* Images */
#define LIMIT_IMAGE_BYTES (20u << 20)       /* an encoded photo: a body, an upload, a fetched address */
#define LIMIT_IMAGE_SIDE 30000              /* pixels, either side */
#define LIMIT_IMAGE_PIXELS (100u * 1000000) /* width x height, from the header, before decoding */

/* HTTP */
#define LIMIT_BODY_BYTES (20u << 20)   /* default of --body-limit */
#define LIMIT_HEADER_BYTES (16u << 10) /* request line and headers together */
#define LIMIT_JSON_DEPTH 64            /* nesting of a JSON body */
#define LIMIT_FETCH_SECONDS 10         /* the whole of fetching a photo's address */
#define LIMIT_FETCH_REDIRECTS 5
#define LIMIT_URL_BYTES 2048

/* Models */
#define LIMIT_MODEL_BYTES (8ull << 30) /* an ONNX file with its external data */
#define LIMIT_MODEL_NODES 200000
#define LIMIT_MODEL_VALUES 1000000
#define LIMIT_NAME_BYTES 4096 /* a name within a model */
#define LIMIT_TENSOR_RANK 8
#define LIMIT_TENSOR_ELEMENTS (1ll << 31)
#define LIMIT_PROTOBUF_DEPTH 32       /* nesting of protobuf messages */
#define LIMIT_CONFIG_BYTES (4u << 20) /* config.json and its neighbours */
#define LIMIT_MODEL_FOLDERS 1000      /* in a model directory */
#define LIMIT_CLASSES 100000          /* labels of a model */
