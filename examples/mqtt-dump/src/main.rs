//! `mqtt-dump [--hex] [--server VERSION] < bytes`: prints the packets of one direction of an MQTT connection.

use std::{
    env,
    error::Error,
    io::{self, Read, Write},
};

use paloma_codec::{DecodeLimits, Decoder, ProtocolVersion};

struct Arguments {
    is_hex: bool,
    /// The version of the connection if the bytes are a server's; a client's say so themselves.
    server: Option<ProtocolVersion>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments()?;
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input)?;
    if arguments.is_hex {
        input = from_hex(&input)?;
    }
    let decoder = match arguments.server {
        Some(version) => Decoder::client(version, DecodeLimits::UNLIMITED),
        None => Decoder::server(DecodeLimits::UNLIMITED),
    };
    dump(decoder, &input, &mut io::stdout().lock())
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments {
        is_hex: false,
        server: None,
    };
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--hex" => parsed.is_hex = true,
            "--server" => {
                parsed.server = Some(match arguments.next().as_deref() {
                    Some("5" | "5.0") => ProtocolVersion::V5,
                    Some("3.1.1") => ProtocolVersion::V3_1_1,
                    Some("3.1") => ProtocolVersion::V3_1,
                    _ => return Err("--server 5, 3.1.1 or 3.1".to_owned()),
                });
            }
            _ => return Err(format!("{argument}: neither --hex nor --server")),
        }
    }
    Ok(parsed)
}

fn from_hex(text: &[u8]) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let pairs = digits.chunks(2).map(|pair| {
        let pair = str::from_utf8(pair).map_err(|error| error.to_string())?;
        u8::from_str_radix(pair, 16).map_err(|error| format!("{pair}: {error}"))
    });
    pairs.collect()
}

/// Prints each packet behind its offset and length.
fn dump(mut decoder: Decoder, input: &[u8], out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut at = 0;
    while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
        match decoder.decode(rest) {
            Ok(Some((packet, used))) => {
                writeln!(out, "{at:6} {used:6}  {packet:?}")?;
                at += used;
            }
            Ok(None) => {
                let wanted = decoder.frame_len(rest)?;
                let wanted = wanted.map_or("more".to_owned(), |len| len.to_string());
                writeln!(out, "{at:6} {:6}  incomplete, {wanted} needed", rest.len())?;
                return Ok(());
            }
            Err(rule) => {
                let code = rule.reason().code();
                return Err(format!("at offset {at}: {rule} ({code:#04x})").into());
            }
        }
    }
    Ok(())
}
