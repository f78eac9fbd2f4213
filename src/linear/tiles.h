/* Matrix tiles (AMX): registers of 16 rows of 64 bytes. With LINEAR_TILES_EMULATED the same in plain C, so
 * that what is built on them is tested on every processor.
 *
 * GCC 12's own intrinsics do not tell the compiler that a tile load reads memory, nor how much of it
 * ldtilecfg reads: stores before them may be dropped. These do. */
#pragma once
#include <stdint.h>
#include <string.h>

enum { TILE_ROWS = 16, TILE_BYTES = 64 /* of a row */ };

#if !defined(LINEAR_TILES_EMULATED)

/* Shape every tile as 16 rows of 64 bytes, for this thread until tiles_end. */
static inline void tiles_begin(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};

    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = TILE_BYTES;
        config.rows[i] = TILE_ROWS;
    }
    __asm__ volatile("ldtilecfg (%0)" : : "r"(&config) : "memory");
}

/* A thread that is moved has no tiles to carry from here on. */
static inline void tiles_end(void) {
    __asm__ volatile("tilerelease" : : : "memory");
}

/* Tiles are named by literal numbers, 0 to 7; rows of memory are `stride` bytes apart. */
#define tile_zero(tile) __asm__ volatile("tilezero %%tmm" #tile : : :)
#define tile_load(tile, from, stride)                                 \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile               \
                     :                                                \
                     : "r"((const void *)(from)), "r"((long)(stride)) \
                     : "memory")
#define tile_store(tile, to, stride)                          \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)"   \
                     :                                        \
                     : "r"((void *)(to)), "r"((long)(stride)) \
                     : "memory")
/* sums [16][16] int32 += a [16][16][4] x b [16][16][4]: sums[m][n] += a[m][k][i] b[k][n][i]. Bytes of a and
 * b: s is signed, u is not. */
#define tile_dot_ss(sums, a, b) __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #sums : : :)
#define tile_dot_su(sums, a, b) __asm__ volatile("tdpbsud %%tmm" #b ", %%tmm" #a ", %%tmm" #sums : : :)
#define tile_dot_us(sums, a, b) __asm__ volatile("tdpbusd %%tmm" #b ", %%tmm" #a ", %%tmm" #sums : : :)
#define tile_dot_uu(sums, a, b) __asm__ volatile("tdpbuud %%tmm" #b ", %%tmm" #a ", %%tmm" #sums : : :)

#else

static _Thread_local uint8_t emulated_tiles[8][TILE_ROWS][TILE_BYTES];

static inline void tiles_begin(void) {
    memset(emulated_tiles, 0x55, sizeof emulated_tiles);
}

static inline void tiles_end(void) {
    memset(emulated_tiles, 0x55, sizeof emulated_tiles); /* nothing may be taken from them any more */
}

static inline void tile_zero(int tile) {
    memset(emulated_tiles[tile], 0, sizeof emulated_tiles[tile]);
}

static inline void tile_load(int tile, const void *from, long stride) {
    for (int row = 0; row < TILE_ROWS; row++)
        memcpy(emulated_tiles[tile][row], (const char *)from + row * stride, TILE_BYTES);
}

static inline void tile_store(int tile, void *to, long stride) {
    for (int row = 0; row < TILE_ROWS; row++)
        memcpy((char *)to + row * stride, emulated_tiles[tile][row], TILE_BYTES);
}

static inline int32_t emulated_byte(uint8_t byte, int is_signed) {
    return is_signed ? (byte ^ 0x80) - 0x80 : byte;
}

static inline void emulated_dot(int sums, int a, int b, int a_is_signed, int b_is_signed) {
    for (int m = 0; m < TILE_ROWS; m++) {
        uint32_t row[TILE_ROWS]; /* sums wrap around */
        memcpy(row, emulated_tiles[sums][m], sizeof row);
        for (int n = 0; n < TILE_ROWS; n++)
            for (int k = 0; k < TILE_ROWS; k++)
                for (int i = 0; i < 4; i++)
                    row[n] += (uint32_t)(emulated_byte(emulated_tiles[a][m][4 * k + i], a_is_signed) *
                                         emulated_byte(emulated_tiles[b][k][4 * n + i], b_is_signed));
        memcpy(emulated_tiles[sums][m], row, sizeof row);
    }
}

#define tile_dot_ss(sums, a, b) emulated_dot(sums, a, b, 1, 1)
#define tile_dot_su(sums, a, b) emulated_dot(sums, a, b, 1, 0)
#define tile_dot_us(sums, a, b) emulated_dot(sums, a, b, 0, 1)
#define tile_dot_uu(sums, a, b) emulated_dot(sums, a, b, 0, 0)

#endif
