/* Go's runtime loads bcryptprimitives.dll. Wine has none before 8.16: this
 * stands in its place in the tests. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID, ULONG); /* RtlGenRandom */

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE p, SIZE_T n)
{
	return SystemFunction036(p, (ULONG)n);
}
