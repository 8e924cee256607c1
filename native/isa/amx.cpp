// AMX: AVX-512-VNNI, and products of many tokens by squares.
#include "vnni_512.h"
#define INTAGLIO_SQUARES
#define INTAGLIO_GATHERS  // of these processors none has gathers slowed down by microcode
#define INTAGLIO_NAME "amx"
#define INTAGLIO_TABLE kAmx
#include "body/table.h"
