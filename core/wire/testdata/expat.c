/*
 * The yardstick of BenchmarkExpat: libexpat over a stream of XMPP stanzas, read
 * in portions as from a socket, with namespace processing and handlers that do
 * the least an XMPP server needs: find where top-level elements end.
 *
 * usage: expat FILE PORTION ROUNDS
 * prints for each round: nanoseconds and number of top-level elements.
 */
#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct count {
	XML_Parser parser;
	int depth;
	long elements;
	long attrs;
};

static void XMLCALL on_start(void *data, const XML_Char *name, const XML_Char **atts)
{
	struct count *c = data;
	(void)name;
	c->depth++;
	for (; atts[0]; atts += 2)
		c->attrs++;
}

static void XMLCALL on_end(void *data, const XML_Char *name)
{
	struct count *c = data;
	(void)name;
	if (--c->depth == 1)
		c->elements++;
}

static void XMLCALL on_text(void *data, const XML_Char *s, int len)
{
	(void)data;
	(void)s;
	(void)len;
}

static void XMLCALL on_restricted(void *data, const XML_Char *s)
{
	(void)s;
	XML_StopParser(((struct count *)data)->parser, XML_FALSE);
}

static double now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e9 + ts.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: expat FILE PORTION ROUNDS\n");
		return 2;
	}
	FILE *f = fopen(argv[1], "rb");
	if (!f) {
		perror(argv[1]);
		return 1;
	}
	fseek(f, 0, SEEK_END);
	long size = ftell(f);
	rewind(f);
	char *in = malloc(size);
	if (!in || fread(in, 1, size, f) != (size_t)size) {
		fprintf(stderr, "cannot read %s\n", argv[1]);
		return 1;
	}
	fclose(f);
	long portion = atol(argv[2]);
	int rounds = atoi(argv[3]);
	if (portion < 1)
		return 2;
	for (int r = 0; r < rounds; r++) {
		double begin = now();
		struct count c = {0};
		XML_Parser p = XML_ParserCreateNS("UTF-8", '\n');
		c.parser = p;
		XML_SetUserData(p, &c);
		XML_SetElementHandler(p, on_start, on_end);
		XML_SetCharacterDataHandler(p, on_text);
		XML_SetCommentHandler(p, on_restricted);
		for (long at = 0; at < size; at += portion) {
			int n = size - at < portion ? size - at : portion;
			if (XML_Parse(p, in + at, n, 0) != XML_STATUS_OK) {
				fprintf(stderr, "octet %ld: %s\n", (long)XML_GetCurrentByteIndex(p), XML_ErrorString(XML_GetErrorCode(p)));
				return 1;
			}
		}
		printf("%.0f %ld\n", now() - begin, c.elements);
		XML_ParserFree(p);
	}
	free(in);
	return 0;
}
