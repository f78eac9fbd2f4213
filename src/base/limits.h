/* Every limit on what comes from outside, by name, in one place. Sizes in bytes unless stated otherwise. */
#pragma once

/* Images */
#define LIMIT_IMAGE_BYTES (20u << 20)       /* an encoded photo: a body, an upload, a fetched file */
#define LIMIT_IMAGE_SIDE 30000              /* pixels, either side */
#define LIMIT_DECODE_BYTES (120ll << 20)    /* memory that decoding a photo may take */
#define LIMIT_IMAGE_PIXELS (128u * 1000000) /* width x height, from the header, before decoding */

/* Data sets */
#define LIMIT_PHOTOS 2000000            /* images in a folder of photos */
#define LIMIT_LABELS_BYTES (256u << 20) /* a list of photos and classes */

/* HTTP */
#define LIMIT_BODY_BYTES (20u << 20)        /* default of --body-limit */
#define LIMIT_HEADER_BYTES (16u << 10)      /* request line and headers together */
#define LIMIT_HEADER_LINES 128              /* of one message */
#define LIMIT_ADDED_HEADER_BYTES (4u << 10) /* … more for each tier that may stand before this one */
#define LIMIT_ADDED_HEADER_LINES 12
#define LIMIT_RESPONSE_HEADER_BYTES (64u << 10) /* status line and headers together, of an upstream */
#define LIMIT_CHUNK_LINE_BYTES 256              /* a chunk's size and extensions */
#define LIMIT_TRAILER_BYTES 4096                /* all trailers */
#define LIMIT_BOUNDARY_BYTES 200                /* of multipart/form-data */
#define LIMIT_PART_HEAD_BYTES 4096              /* the headers of one part */
#define LIMIT_SHORT_BODY_BYTES (64 << 10)       /* a request's body that is read even if it is then refused */
#define LIMIT_REPLAY_BYTES (16 << 20)           /* a request's body that is kept, to be sent again */
#define LIMIT_COLLECTED_BYTES (64 << 10)        /* a response of a known length that is passed on whole */
#define LIMIT_ANSWERED_BYTES (1 << 20)          /* a response to a tier's own question */
#define LIMIT_REPLY_RATE 4096                /* bytes a second, the least that a client takes of its reply */
#define LIMIT_OUTPUT_HIGH_BYTES (256u << 10) /* pending output above which a producer should stop */
#define LIMIT_OUTPUT_LOW_BYTES (64u << 10)   /* … and under which it is told to go on */
#define LIMIT_JSON_DEPTH 64                  /* nesting of a JSON body */
#define LIMIT_FETCH_SECONDS 10               /* to fetch a photo by its URL, all in all */
#define LIMIT_FETCH_REDIRECTS 5
#define LIMIT_URL_BYTES 2048

/* Serving */
#define LIMIT_KEY_FILE_BYTES (4u << 20) /* of API keys */
#define LIMIT_BACKENDS_FILE_BYTES (1u << 20)
#define LIMIT_BACKENDS 4096                   /* entries of a list of backends */
#define LIMIT_REPLICAS 64                     /* of one model */
#define LIMIT_FORWARDED_HEADERS 160           /* of one forwarded message */
#define LIMIT_METRIC_SERIES 20000             /* of one process: labels may come from outside */
#define LIMIT_PREPARED_MODELS 500             /* … whose series begin before their first request */
#define LIMIT_METRICS_BYTES (64u << 20)       /* the text of /metrics */
#define LIMIT_CHILD_RESPONSE_BYTES (4u << 20) /* from a model's process to the supervisor */
#define LIMIT_MERGED_SAMPLES 20000            /* of all models' processes together */
#define LIMIT_SAMPLE_KEY_BYTES 1000           /* a sample's name and labels */
#define LIMIT_METRIC_FAMILIES 512
#define LIMIT_LOG_LINE_BYTES 3900 /* with a notice before it, what a pipe takes in one piece */

/* Models */
#define LIMIT_MODEL_BYTES (8ull << 30) /* an ONNX file with its external data */
#define LIMIT_MODEL_NODES 200000
#define LIMIT_MODEL_VALUES 1000000
#define LIMIT_NAME_BYTES 4096 /* a name within a model */
#define LIMIT_TENSOR_RANK 8
#define LIMIT_TENSOR_ELEMENTS (1ll << 31)
#define LIMIT_PROTOBUF_DEPTH 32         /* nesting of protobuf messages */
#define LIMIT_CONFIG_BYTES (4u << 20)   /* config.json and its neighbours */
#define LIMIT_CARD_BYTES (128 * 1024)   /* a model's README.md */
#define LIMIT_MODEL_FOLDERS 1000        /* in a model directory */
#define LIMIT_CLASSES 100000            /* labels of a model */
#define LIMIT_METADATA 256              /* properties of a network file */
#define LIMIT_METADATA_BYTES (1u << 20) /* of one property */

/* Chat templates */
#define LIMIT_SCHEMA_BYTES (64 << 10)    /* a JSON Schema that constrains an answer */
#define LIMIT_CONSTRAINT_NODES (1 << 17) /* states, edges, words … of its automaton, each */
#define LIMIT_SCHEMA_CHOICES 64          /* schemas of one anyOf */
#define LIMIT_PATTERN_BYTES 1000         /* a regular expression in it */
#define LIMIT_TOOLS 128                  /* that a model may be told to call */
#define LIMIT_TOOL_HEAD (16 << 10)       /* a call up to its arguments */
#define LIMIT_CONSTRAINED_TOKEN 512      /* bytes of a token that may be written under a constraint */
#define LIMIT_TEMPLATE_BYTES (1 << 20)
#define LIMIT_TEMPLATE_NESTING 200    /* of tags and expressions within each other */
#define LIMIT_TEMPLATE_DEPTH 1000     /* of what is being evaluated: macros within macros, nested values */
#define LIMIT_TEMPLATE_STEPS 50000000 /* nodes evaluated, items visited, 64 bytes read or written */
#define LIMIT_TEMPLATE_MEMORY_BYTES (256u << 20) /* of one rendering */
#define LIMIT_PROMPT_BYTES (32u << 20)           /* what a template may write */

/* Language models */
#define LIMIT_GGUF_BYTES (512ull << 30) /* one file; it is mapped, not read */
#define LIMIT_GGUF_PARTS 1000           /* files of one model */
#define LIMIT_SAFETENSORS_HEADER_BYTES (100u << 20)
#define LIMIT_TOKENIZER_BYTES (128u << 20) /* tokenizer.json */
#define LIMIT_LAYERS 1000
#define LIMIT_LAYER_WIDTH (1 << 20) /* numbers of a layer's input or of its MLP */
#define LIMIT_HEADS 1024
#define LIMIT_ENCODER_CONTEXT 8192      /* tokens of a text that becomes one vector */
#define LIMIT_HEAD_SIZE 1024            /* numbers of one head */
#define LIMIT_TOKENS (1 << 21)          /* of a vocabulary */
#define LIMIT_TOKEN_BYTES 4096          /* of one token */
#define LIMIT_MERGES (1 << 22)          /* rules of byte pair encoding */
#define LIMIT_TOKENIZED_BYTES (1 << 28) /* of one text */

#define LIMIT_ANSWERS 128    /* to one request to a language model */
#define LIMIT_STOP_BYTES 256 /* of a string that ends an answer */

/* Downloads of models */
#define LIMIT_DOWNLOAD_REDIRECTS 10
#define LIMIT_LISTING_BYTES (8u << 20) /* one page of a repository's listing */
#define LIMIT_LISTING_PAGES 20
#define LIMIT_LISTING_FILES 20000  /* of a repository */
#define LIMIT_REPOSITORY_BYTES 200 /* "OWNER/REPO" */
#define LIMIT_PULL_FILES 256       /* of one model */
