// Package conformance holds the REST interface against its own OpenAPI document with
// tools that its authors did not write: openapi-spec-validator reads the document,
// and schemathesis makes requests that the document allows and requests that it
// does not, for every operation of a running server, and checks the answers: their
// status, type, headers and schema, that what is wrong is refused, that tokens are
// asked for, that other methods are not there.
//
// setup.sh installs both. When they are missing the tests fail;
// TRIVIUM_CONFORMANCE=off turns the package off, and TRIVIUM_CONFORMANCE=long has
// schemathesis look for longer, and for sequences of requests. Its reports are kept
// in test/artifacts.
package conformance
