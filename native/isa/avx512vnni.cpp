#include "vnni_512.h"
#define INTAGLIO_NAME "avx512vnni"
#define INTAGLIO_TABLE kAvx512Vnni
#include "body/table.h"
