// Package openapitest holds the API of services against its OpenAPI document, by a validator that knows only that. It is a
// package of its own because the validator is large, and would slow down the tests of services.
package openapitest
