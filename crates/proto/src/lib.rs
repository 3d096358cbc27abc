//! Wire messages: .proto files, generated code, conversions between wire and domain
