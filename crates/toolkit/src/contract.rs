//! Checks from its types alone whether a component fits our world. Nothing is compiled.

use anyhow::{Context, Result, bail};
use wit_component::DecodedWasm;
use wit_parser::{
    Function, InterfaceId, PackageName, Resolve, Type, TypeDefKind, WorldId, WorldItem, WorldKey,
};

/// The WIT package, as this version of wasq has it.
pub(crate) const WIT: &str = include_str!("../../../tasks-wit/wit/task.wit");

/// The result of a component's comparison with our world.
#[derive(Clone, Debug)]
pub struct Contract {
    /// Its imports, by their full names, such as `wasi:http/types@0.2.10`.
    pub imports: Vec<String>,
    /// The reasons why it does not fit, with advice; empty if it fits.
    pub problems: Vec<String>,
}

/// Our own world.
pub(crate) fn our_world() -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("task.wit", WIT).expect("it is our own WIT");
    let world = resolve.select_world(&[package], Some("task")).expect("our own WIT has this world");
    (resolve, world)
}

impl Contract {
    /// Reads a component's types.
    pub fn of(component: &[u8]) -> Result<Self> {
        let decoded = wit_component::decode(component).context("read the component's types")?;
        let DecodedWasm::Component(theirs, their_world) = decoded else {
            bail!("it is a WIT package, not a component");
        };
        let (ours, our_world) = our_world();
        let mut contract = Self { imports: Vec::new(), problems: Vec::new() };
        for (key, item) in &theirs.worlds[their_world].imports {
            let name = theirs.name_world_key(key);
            match (key, item) {
                (WorldKey::Interface(id), _) => {
                    contract.problems.extend(import_problems(&ours, our_world, &theirs, *id, &name));
                }
                (WorldKey::Name(_), WorldItem::Type { .. }) => continue,
                (WorldKey::Name(_), _) => contract.problems.push(format!(
                    "it imports {name:?}, which is in no interface that wasq offers; find the code or library that imports it"
                )),
            }
            contract.imports.push(name);
        }
        let run = &ours.worlds[our_world].exports[&WorldKey::Name("run".to_owned())];
        let WorldItem::Function(run) = run else { unreachable!("our world exports it as a function") };
        let expected = signature(&ours, run);
        let exports = &theirs.worlds[their_world].exports;
        match exports.get(&WorldKey::Name("run".to_owned())) {
            Some(WorldItem::Function(found)) if signature(&theirs, found) == expected => {}
            Some(WorldItem::Function(found)) => contract
                .problems
                .push(format!("its function run is {}; wasq calls {expected}", signature(&theirs, found))),
            _ => {
                let exported: Vec<_> = exports.keys().map(|key| theirs.name_world_key(key)).collect();
                let exported = if exported.is_empty() { "nothing".to_owned() } else { exported.join(", ") };
                contract.problems.push(format!(
                    "it exports no function run, but {exported}; was it built for the world wasq:task/task?"
                ));
            }
        }
        Ok(contract)
    }
}

/// Returns the problems of an imported interface. The host links WASI in all of its 0.2 versions.
fn import_problems(
    ours: &Resolve,
    our_world: WorldId,
    theirs: &Resolve,
    interface: InterfaceId,
    name: &str,
) -> Vec<String> {
    // An interface that has only types needs no linking.
    let has_resources = |interface: &wit_parser::Interface| {
        interface.types.values().any(|id| matches!(theirs.types[*id].kind, TypeDefKind::Resource))
    };
    let imported = &theirs.interfaces[interface];
    if imported.functions.is_empty() && !has_resources(imported) {
        return Vec::new();
    }
    let Some(package) = imported.package else { return Vec::new() };
    let package = &theirs.packages[package].name;
    if package.namespace == "wasi" {
        let known = ["cli", "clocks", "filesystem", "http", "io", "random", "sockets"]
            .contains(&package.name.as_str());
        let version_fits = package
            .version
            .as_ref()
            .is_some_and(|version| version.major == 0 && version.minor == 2 && version.pre.is_empty());
        if !known {
            return vec![format!("it imports {name}, which wasq does not offer")];
        }
        if !version_fits {
            return vec![format!("it imports {name}: wasq offers WASI 0.2; build it for that version")];
        }
        return Vec::new();
    }
    let our_package = ours.worlds[our_world].package.expect("our world is in a package");
    let our_package = &ours.packages[our_package];
    if (&package.namespace, &package.name) != (&our_package.name.namespace, &our_package.name.name) {
        return vec![format!(
            "it imports {name}, which wasq does not offer; tasks have wasq:task and WASI 0.2"
        )];
    }
    let track = |name: &PackageName| name.version.as_ref().map(PackageName::version_compat_track);
    if track(package) != track(&our_package.name) {
        return vec![format!(
            "it was built for another version of the world: it imports {name}, this wasq has {}; build it again with this wasq's SDK",
            our_package.name
        )];
    }
    let interface = &theirs.interfaces[interface];
    let interface_name = interface.name.as_deref().unwrap_or_default();
    let Some(our_interface) = our_package.interfaces.get(interface_name) else {
        return vec![format!(
            "it imports {name}: there is no interface {interface_name:?} in {}",
            our_package.name
        )];
    };
    let functions = &ours.interfaces[*our_interface].functions;
    let mut problems = Vec::new();
    for (function_name, function) in &interface.functions {
        let found = signature(theirs, function);
        match functions.get(function_name).map(|function| signature(ours, function)) {
            Some(expected) if expected == found => {}
            Some(expected) => problems.push(format!(
                "it imports {function_name} of {name} as {found}; in this wasq it is {expected}"
            )),
            None => problems.push(format!(
                "it imports {function_name} of {name}, which this wasq does not have: it was built for a later version; update wasq, or \
                 build the task with this wasq's SDK"
            )),
        }
    }
    problems
}

/// A function's type with everything that it refers to, so that equal texts mean equal types.
fn signature(resolve: &Resolve, function: &Function) -> String {
    let params: Vec<_> = function
        .params
        .iter()
        .map(|param| format!("{}: {}", param.name, shape(resolve, &param.ty)))
        .collect();
    let result = function.result.map(|ty| format!(" -> {}", shape(resolve, &ty))).unwrap_or_default();
    format!("func({}){result}", params.join(", "))
}

fn shape(resolve: &Resolve, ty: &Type) -> String {
    let Type::Id(id) = ty else { return format!("{ty:?}").to_lowercase() };
    let shape = |ty: &Type| shape(resolve, ty);
    let optional = |ty: &Option<Type>| ty.as_ref().map_or("_".to_owned(), shape);
    match &resolve.types[*id].kind {
        TypeDefKind::Type(ty) => shape(ty),
        TypeDefKind::List(ty) => format!("list<{}>", shape(ty)),
        TypeDefKind::Option(ty) => format!("option<{}>", shape(ty)),
        TypeDefKind::Result(result) => format!("result<{}, {}>", optional(&result.ok), optional(&result.err)),
        TypeDefKind::Record(record) => {
            let fields = record.fields.iter().map(|field| format!("{}: {}", field.name, shape(&field.ty)));
            format!("record {{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        TypeDefKind::Variant(variant) => {
            let cases = variant.cases.iter().map(|case| match &case.ty {
                Some(ty) => format!("{}({})", case.name, shape(ty)),
                None => case.name.clone(),
            });
            format!("variant {{ {} }}", cases.collect::<Vec<_>>().join(", "))
        }
        TypeDefKind::Enum(cases) => {
            let cases = cases.cases.iter().map(|case| case.name.clone());
            format!("enum {{ {} }}", cases.collect::<Vec<_>>().join(", "))
        }
        TypeDefKind::Tuple(tuple) => {
            format!("tuple<{}>", tuple.types.iter().map(shape).collect::<Vec<_>>().join(", "))
        }
        // No type of our world is one of these.
        other => other.as_str().to_owned(),
    }
}
