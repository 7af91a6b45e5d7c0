// Package gateways holds three example gateways, each a program of less than a
// hundred and fifty lines that knows HTTP and nothing of XMPP, and the test that they
// work: docs/gateways.md explains them.
//
//   - textfile (Python): webhooks in, REST out; the network is a text file.
//   - sse (Node): server-sent events in, REST out; nothing has to reach the program.
//   - cpimfiles (Go): Message/CPIM objects as files, by webhook and REST.
//
// The test starts the server's binary, declares each gateway by REST as an operator
// would, and lets a slixmpp user chat through it while the program is killed and
// started again: nothing may be lost, out of order or repeated.
package gateways
