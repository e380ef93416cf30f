//! Which fields the messages have that a record is made of: a table for whoever reads a record's bytes field
//! by field (`src/shape.rs`).

use std::{collections::BTreeMap, fmt::Write as _};

use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

const PACKAGE: &str = ".customhouse.v1.";

/// The source of a table of all messages that are in `root`, `root` first.
///
/// # Errors
/// A message that a record may not have: with a map, a float, an optional scalar, a repeated number, a number
/// of a signed or fixed type, or inside itself.
pub(crate) fn of(files: &FileDescriptorSet, root: &str) -> Result<String, String> {
    let all = files.file.iter().filter(|file| file.package() == "customhouse.v1");
    let messages: BTreeMap<&str, &DescriptorProto> =
        all.flat_map(|file| file.message_type.iter().map(|m| (m.name(), m))).collect();
    let mut found = vec![root.to_owned()];
    let mut lines = Vec::new();
    let mut next = 0;
    while let Some(name) = found.get(next).cloned() {
        let message = messages.get(&*name).ok_or_else(|| format!("{name}: not a message"))?;
        lines.push(shape(&name, message, &mut found)?);
        next += 1;
    }
    check_depth(&messages, root, &mut Vec::new())?;
    Ok(format!(
        "/// The messages that a record is made of, `Record` first.\npub static SHAPES: &[Shape] = &[\n{}];\n",
        lines.concat()
    ))
}

fn shape(name: &str, message: &DescriptorProto, found: &mut Vec<String>) -> Result<String, String> {
    let mut fields: Vec<_> = message.field.iter().collect();
    fields.sort_unstable_by_key(|field| field.number());
    let mut line = format!("    Shape {{ name: {name:?}, fields: &[\n");
    for field in fields {
        let kind = kind(name, field, found)?;
        let repeated = field.label() == Label::Repeated;
        writeln!(
            line,
            "        Field {{ name: {:?}, number: {}, repeated: {repeated}, kind: {kind} }},",
            field.name(),
            field.number(),
        )
        .expect("a string takes all");
    }
    line.push_str("    ] },\n");
    Ok(line)
}

fn kind(
    message: &str,
    field: &FieldDescriptorProto,
    found: &mut Vec<String>,
) -> Result<String, String> {
    let refused = |why: &str| Err(format!("{message}.{}: {why}", field.name()));
    if field.proto3_optional() {
        return refused("a record has no optional scalars");
    }
    Ok(match field.r#type() {
        Type::String => "FieldKind::Text".to_owned(),
        Type::Bytes => "FieldKind::Bytes".to_owned(),
        Type::Uint32 | Type::Uint64 | Type::Bool | Type::Enum => {
            if field.label() == Label::Repeated {
                return refused("a record has no repeated numbers");
            }
            "FieldKind::Number".to_owned()
        }
        Type::Message => {
            let Some(name) = field.type_name().strip_prefix(PACKAGE) else {
                return refused("a message of another package");
            };
            let place = found.iter().position(|known| known == name).unwrap_or_else(|| {
                found.push(name.to_owned());
                found.len() - 1
            });
            format!("FieldKind::Message({place})")
        }
        _ => return refused("of a type that a record may not have"),
    })
}

/// No message is inside itself: a record's depth is bounded by its messages, and not by whoever sends it.
fn check_depth<'a>(
    messages: &BTreeMap<&'a str, &'a DescriptorProto>,
    name: &'a str,
    above: &mut Vec<&'a str>,
) -> Result<(), String> {
    if above.contains(&name) {
        return Err(format!("{name}: is inside itself"));
    }
    above.push(name);
    for field in messages.get(name).into_iter().flat_map(|message| &message.field) {
        if let Some(inner) = field.type_name().strip_prefix(PACKAGE)
            && let Some((inner, _)) = messages.get_key_value(inner)
        {
            check_depth(messages, inner, above)?;
        }
    }
    above.pop();
    Ok(())
}
