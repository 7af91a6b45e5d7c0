package wire

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// mixed are stanzas as clients and servers exchange them: chats with markers,
// presence with capabilities, a roster, an archive page, a stream management
// request, text in other scripts.
var mixed = []string{
	`<message from='juliet@im.example.com/balcony' to='romeo@example.net' type='chat' id='%d' xml:lang='en'><body>Wherefore art thou, Romeo? Deny thy father and refuse thy name &amp; I&apos;ll no longer be a Capulet.</body><active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/></message>`,
	`<presence from='juliet@im.example.com/balcony' to='romeo@example.net/orchard' id='%d'><show>away</show><status>be right back</status><priority>5</priority><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='http://psi-im.org' ver='q07IKJEyjvHSyhy//CH0CxmKi8w='/><x xmlns='vcard-temp:x:update'><photo>01b87fcd030b72895ff8e88db57ec525450f000d</photo></x></presence>`,
	`<a xmlns='urn:xmpp:sm:3' h='%d'/>`,
	`<message from='romeo@example.net/orchard' to='juliet@im.example.com' type='chat' id='%d'><body>Я люблю тебя, и это всё, что я могу сказать об этом сегодня ночью под твоим балконом</body><origin-id xmlns='urn:xmpp:sid:0' id='de305d54-75b4-431b-adb2-eb6b9e546013'/></message>`,
	`<iq type="result" id="roster_%d" to="juliet@im.example.com/balcony"><query xmlns="jabber:iq:roster" ver="ver7"><item jid="nurse@example.com" name="Nurse" subscription="both"><group>Servants</group></item><item jid="romeo@example.net" name="Romeo" subscription="both"><group>Friends</group></item><item jid="benvolio@example.net" subscription="to"/><item jid="mercutio@example.org" name="Mercutio" subscription="from"><group>Friends</group></item></query></iq>`,
	`<iq type='get' id='disco%d' to='im.example.com'><query xmlns='http://jabber.org/protocol/disco#info' node='http://psi-im.org#q07IKJEyjvHSyhy//CH0CxmKi8w='/></iq>`,
	`<message to='juliet@im.example.com/balcony' from='coven@chat.shakespeare.lit'><result xmlns='urn:xmpp:mam:2' queryid='g27' id='%d'><forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2002-10-13T23:58:37Z'/><message xmlns="jabber:client" from='coven@chat.shakespeare.lit/secondwitch' id='162BEBB1-F6DB-4D9A-9BD8-CFDCC801A0B2' type='groupchat'><body>Thrice the brinded cat hath mew'd. Thrice, and once the hedge-pig whined; Harpier cries: 'tis time, 'tis time!</body><x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='none' jid='witch2@shakespeare.lit' role='participant'/></x></message></forwarded></result></message>`,
	`<r xmlns='urn:xmpp:sm:3'/>` + "\n",
}

const benchSize = 64 << 20

// mixedStream returns a header and at least size octets of mixed stanzas.
func mixedStream(size int) []byte {
	buf := bytes.NewBufferString(header)
	for k := 0; buf.Len() < size; k++ {
		m := mixed[k%len(mixed)]
		if bytes.Contains([]byte(m), []byte("%d")) {
			fmt.Fprintf(buf, m, k)
		} else {
			buf.WriteString(m)
		}
	}
	return buf.Bytes()
}

// readSize is what one read of a busy connection gives.
const readSize = 16 << 10

// scanAll scans in in portions of the given number of octets, as from a socket,
// and returns the number of elements.
func scanAll(tb testing.TB, s *Scanner, in []byte, portion int) (elements int) {
	s.Reset(Stream, Limits{Children: 1 << 20})
	from, to := 0, 0
	for to < len(in) {
		to = min(to+portion, len(in))
		for {
			kind, n, err := s.Next(in[from:to])
			if err != nil {
				tb.Fatal(err)
			}
			from += n
			if kind == KindMore {
				break
			}
			elements++
		}
	}
	return elements
}

func BenchmarkScanner(b *testing.B) {
	in := mixedStream(benchSize)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	var s Scanner
	for b.Loop() {
		scanAll(b, &s, in, readSize)
	}
}

// BenchmarkFragments: trickling input, in elements as large as they may be, does
// not cost more per octet than a call per portion.
func BenchmarkFragments(b *testing.B) {
	const size = 250 << 10
	for name, in := range map[string]string{
		"text":  "<a>" + strings.Repeat("b", size) + "</a>",
		"value": "<a b='" + strings.Repeat("c", size) + "'/>",
		"space": "<a" + strings.Repeat(" ", size) + "/>",
		"cdata": "<a><![CDATA[" + strings.Repeat("]", size) + "]]></a>",
		"refs":  "<a>" + strings.Repeat("&#000065;", size/9) + "</a>",
		"tags":  "<a>" + strings.Repeat("<bcdefgh></bcdefgh>", size/19) + "</a>",
	} {
		in := []byte(header + in)
		for _, portion := range []int{1, 64, 1460} {
			b.Run(fmt.Sprintf("%s/%d", name, portion), func(b *testing.B) {
				b.SetBytes(int64(len(in)))
				var s Scanner
				for b.Loop() {
					if scanAll(b, &s, in, portion) != 2 {
						b.Fatal("not one element")
					}
				}
			})
		}
	}
}

func BenchmarkEncodingXML(b *testing.B) {
	in := mixedStream(benchSize / 8)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		d := xml.NewDecoder(bytes.NewReader(in))
		for {
			if _, err := d.Token(); err != nil {
				if se, ok := err.(*xml.SyntaxError); err == io.EOF || ok && se.Msg == "unexpected EOF" {
					break
				}
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkExpat compiles testdata/expat.c and runs it on the same octets in the
// same portions. It is skipped, and says so, where gcc or libexpat is missing.
func BenchmarkExpat(b *testing.B) {
	run := buildExpat(b)
	in := mixedStream(benchSize)
	var s Scanner
	elements := scanAll(b, &s, in, readSize) - 1 // without the header
	var total time.Duration
	rounds := 0
	for b.Loop() {
		took, found := run(in)
		if found != elements {
			b.Fatalf("expat found %d elements, the scanner %d", found, elements)
		}
		total += took
		rounds++
	}
	// What counts is the time it took itself, without starting and reading.
	b.ReportMetric(float64(total.Nanoseconds())/float64(rounds), "ns/op")
	b.ReportMetric(float64(len(in))*float64(rounds)/total.Seconds()/1e6, "MB/s")
}

// buildExpat compiles the yardstick and returns a function that runs it once.
func buildExpat(tb testing.TB) func(in []byte) (took time.Duration, elements int) {
	dir := tb.TempDir()
	bin := filepath.Join(dir, "expat")
	if out, err := exec.Command("gcc", "-O2", "-Wall", "-o", bin, "testdata/expat.c", "-lexpat").CombinedOutput(); err != nil {
		tb.Skipf("NO COMPARISON WITH EXPAT: gcc and libexpat1-dev are needed: %v\n%s", err, out)
	}
	return func(in []byte) (time.Duration, int) {
		file := filepath.Join(dir, "stream.xml")
		if _, err := os.Stat(file); err != nil {
			if err := os.WriteFile(file, in, 0o600); err != nil {
				tb.Fatal(err)
			}
		}
		out, err := exec.Command(bin, file, strconv.Itoa(readSize), "1").CombinedOutput()
		var took, elements int
		if _, scanErr := fmt.Sscan(string(out), &took, &elements); err != nil || scanErr != nil {
			tb.Fatalf("expat: %v %s", err, out)
		}
		return time.Duration(took), elements
	}
}
