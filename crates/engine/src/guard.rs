//! A look at a component before it is compiled. It refuses components whose compilation would take far more time or memory
//! than their size suggests, and says which part of them is too large.
//!
//! The limits lie far above those of any honest component that was tried. What passes them is still compiled under the
//! limits of a process (`wasq_publisher`).

use wasmparser::{
    BinaryReaderError, BlockType, ComponentAlias, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, Encoding, FrameKind, FuncValidator, FuncValidatorAllocations, Operator, Parser,
    Payload, ValidPayload, Validator, WasmFeatures, WasmModuleResources,
};

/// Components and modules inside each other.
const DEPTH_MAX: usize = 32;
/// Instances after every instantiation of a component was repeated inside it.
const INSTANCES_MAX: u64 = 10_000;
/// Modules, over all of the component.
const MODULES_MAX: u64 = 1_000;
/// Functions, over all modules.
const FUNCTIONS_MAX: u64 = 300_000;
/// Types, over all modules and components.
const TYPES_MAX: u64 = 200_000;
/// Imports, exports, tables, memories and segments together, over all modules and components.
const ITEMS_MAX: u64 = 1_000_000;
/// Globals, over all modules. With some ten thousand, the compiler's tables of what memory may be the same are full.
const GLOBALS_MAX: u64 = 10_000;
/// Bytes of one function.
const FUNCTION_BYTES_MAX: usize = 4 << 20;
/// Locals of one function.
const LOCALS_MAX: u32 = 20_000;
/// Blocks, loops and conditions of one function.
const BLOCKS_MAX: u64 = 200_000;
/// Blocks inside each other.
const BLOCK_DEPTH_MAX: u32 = 20_000;
/// Loops inside each other: the compiler's analysis of loops takes time by the square of this.
const LOOP_DEPTH_MAX: u32 = 200;
/// Values on the stack of one function at once.
const OPERANDS_MAX: u32 = 10_000;
/// Values that the branches of one function carry: for each target of a branch, the values of its label, and one.
const BRANCH_VALUES_MAX: u64 = 1_000_000;
/// Loops times locals of one function: the compiler may keep each local for each loop.
const LOOP_LOCALS_MAX: u64 = 4_000_000;

/// Looks at a component. The error names the part that is too large, and the limit. A file that is not well-formed passes:
/// the compiler says better what is wrong with it.
pub(crate) fn look(wasm: &[u8]) -> Result<(), String> {
    match Look::default().look(wasm) {
        Err(Stopped::TooLarge(why)) => Err(why),
        Ok(()) | Err(Stopped::Malformed) => Ok(()),
    }
}

enum Stopped {
    TooLarge(String),
    Malformed,
}

impl From<BinaryReaderError> for Stopped {
    fn from(_: BinaryReaderError) -> Self {
        Self::Malformed
    }
}

/// The counts of everything that was seen so far.
#[derive(Default)]
struct Look {
    modules: u64,
    functions: u64,
    types: u64,
    globals: u64,
    items: u64,
    /// The components and modules around the current position.
    open: Vec<Open>,
    allocations: FuncValidatorAllocations,
}

/// A component or module that has not ended yet.
#[derive(Default)]
struct Open {
    is_component: bool,
    /// For each component in its index space, how many instances one instantiation makes.
    components: Vec<u64>,
    /// The instances that one instantiation of this component makes.
    instances: u64,
}

impl Look {
    fn look(&mut self, wasm: &[u8]) -> Result<(), Stopped> {
        let mut validator = Validator::new_with_features(WasmFeatures::all());
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            self.payload(&payload)?;
            if let ValidPayload::Func(function, body) = validator.payload(&payload)? {
                self.functions += 1;
                at_most("the component has too many functions", self.functions, FUNCTIONS_MAX)?;
                let bytes = body.range().len();
                let place = || format!("function {} of module {}", function.index, self.modules);
                at_most_in(place, "bytes", bytes as u64, FUNCTION_BYTES_MAX as u64)?;
                let allocations = std::mem::take(&mut self.allocations);
                let mut function = function.into_validator(allocations);
                let costs = costs(&mut function, &body);
                let place = || format!("function {} of module {}", function.index(), self.modules);
                costs?.check(place)?;
                self.allocations = function.into_allocations();
            }
        }
        Ok(())
    }

    fn payload(&mut self, payload: &Payload<'_>) -> Result<(), Stopped> {
        match payload {
            Payload::Version { encoding, .. } => {
                let is_component = *encoding == Encoding::Component;
                self.open.push(Open { is_component, instances: 1, ..Open::default() });
                at_most("components lie in each other too deep", self.open.len() as u64, DEPTH_MAX as u64)?;
            }
            Payload::End(_) => {
                let ended = self.open.pop().unwrap_or_default();
                if let Some(around) = self.open.last_mut()
                    && ended.is_component
                {
                    around.components.push(ended.instances);
                }
            }
            Payload::ModuleSection { .. } => {
                self.modules += 1;
                at_most("the component has too many modules", self.modules, MODULES_MAX)?;
            }
            Payload::TypeSection(types) => self.types(types.count())?,
            Payload::CoreTypeSection(types) => self.types(types.count())?,
            Payload::ComponentTypeSection(types) => self.types(types.count())?,
            Payload::ImportSection(items) => self.items(items.count())?,
            Payload::ExportSection(items) => self.items(items.count())?,
            Payload::GlobalSection(globals) => {
                self.globals += u64::from(globals.count());
                at_most("the component has too many globals", self.globals, GLOBALS_MAX)?;
            }
            Payload::TableSection(items) => self.items(items.count())?,
            Payload::MemorySection(items) => self.items(items.count())?,
            Payload::ElementSection(items) => self.items(items.count())?,
            Payload::DataSection(items) => self.items(items.count())?,
            Payload::ComponentExportSection(exports) => {
                self.items(exports.count())?;
                for export in exports.clone() {
                    let export = export?;
                    // An exported component gets a new index.
                    if export.kind == ComponentExternalKind::Component {
                        let made = self.innermost().made_by(export.index);
                        self.innermost().components.push(made);
                    }
                }
            }
            Payload::ComponentCanonicalSection(items) => self.items(items.count())?,
            Payload::ComponentImportSection(items) => {
                self.items(items.count())?;
                for import in items.clone() {
                    if matches!(import?.ty, wasmparser::ComponentTypeRef::Component(_)) {
                        self.innermost().components.push(1);
                    }
                }
            }
            Payload::InstanceSection(instances) => self.instances(u64::from(instances.count()))?,
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances.clone() {
                    let made = match instance? {
                        ComponentInstance::Instantiate { component_index, .. } => {
                            self.innermost().made_by(component_index)
                        }
                        ComponentInstance::FromExports(_) => 1,
                    };
                    self.instances(made)?;
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                self.items(aliases.count())?;
                for alias in aliases.clone() {
                    self.alias(&alias?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn innermost(&mut self) -> &mut Open {
        if self.open.is_empty() {
            self.open.push(Open::default());
        }
        self.open.last_mut().expect("it was pushed if it was empty")
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) {
        let made = match alias {
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => {
                // It lies in one of the components that are known here.
                self.innermost().components.iter().copied().max().unwrap_or(1)
            }
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                let at = self.open.len().checked_sub(1 + *count as usize);
                at.map_or(1, |at| self.open[at].made_by(*index))
            }
            _ => return,
        };
        self.innermost().components.push(made);
    }

    fn types(&mut self, count: u32) -> Result<(), Stopped> {
        self.types += u64::from(count);
        at_most("the component has too many types", self.types, TYPES_MAX)
    }

    fn items(&mut self, count: u32) -> Result<(), Stopped> {
        self.items += u64::from(count);
        at_most("the component has too many imports, exports and other items", self.items, ITEMS_MAX)
    }

    fn instances(&mut self, made: u64) -> Result<(), Stopped> {
        let innermost = self.innermost();
        innermost.instances = innermost.instances.saturating_add(made);
        at_most("the component makes too many instances", innermost.instances, INSTANCES_MAX)
    }
}

impl Open {
    /// The instances that an instantiation of the component `index` makes.
    fn made_by(&self, index: u32) -> u64 {
        self.components.get(index as usize).copied().unwrap_or(1)
    }
}

/// The numbers that decide how long a function takes to compile.
#[derive(Default)]
struct Costs {
    locals: u32,
    blocks: u64,
    block_depth: u32,
    loops: u64,
    loop_depth: u32,
    operands: u32,
    branch_values: u64,
}

impl Costs {
    /// Whether a limit is passed that more of the function cannot change.
    fn is_too_much(&self) -> bool {
        self.branch_values > BRANCH_VALUES_MAX
            || self.loop_depth > LOOP_DEPTH_MAX
            || self.blocks > BLOCKS_MAX
            || self.block_depth > BLOCK_DEPTH_MAX
            || self.operands > OPERANDS_MAX
    }

    fn check(&self, place: impl Fn() -> String) -> Result<(), Stopped> {
        let Self { locals, blocks, block_depth, loops, loop_depth, operands, branch_values } = *self;
        at_most_in(&place, "locals", locals.into(), LOCALS_MAX.into())?;
        at_most_in(&place, "blocks", blocks, BLOCKS_MAX)?;
        at_most_in(&place, "blocks inside each other", block_depth.into(), BLOCK_DEPTH_MAX.into())?;
        at_most_in(&place, "loops inside each other", loop_depth.into(), LOOP_DEPTH_MAX.into())?;
        at_most_in(&place, "values on its stack", operands.into(), OPERANDS_MAX.into())?;
        at_most_in(&place, "values on its branches", branch_values, BRANCH_VALUES_MAX)?;
        at_most_in(&place, "locals, counted once for each loop", loops * u64::from(locals), LOOP_LOCALS_MAX)
    }
}

/// Validates a function, and counts. Counting ends early where a limit is passed already.
fn costs<R: WasmModuleResources>(
    function: &mut FuncValidator<R>,
    body: &wasmparser::FunctionBody<'_>,
) -> Result<Costs, Stopped> {
    let mut costs = Costs::default();
    let mut reader = body.get_binary_reader();
    function.read_locals(&mut reader)?;
    costs.locals = function.len_locals();
    let mut operators = body.get_operators_reader()?;
    // Whether each open block is a loop.
    let mut open: Vec<bool> = Vec::new();
    let mut loops_open = 0;
    while !operators.eof() {
        let (operator, offset) = operators.read_with_offset()?;
        match &operator {
            Operator::Block { .. }
            | Operator::If { .. }
            | Operator::TryTable { .. }
            | Operator::Loop { .. } => {
                let is_loop = matches!(operator, Operator::Loop { .. });
                costs.blocks += 1;
                costs.loops += u64::from(is_loop);
                loops_open += u32::from(is_loop);
                open.push(is_loop);
            }
            Operator::End => loops_open -= u32::from(open.pop().unwrap_or_default()),
            Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => {
                costs.branch_values += 1 + values(function, *relative_depth);
            }
            Operator::BrTable { targets } => {
                costs.branch_values += 1 + values(function, targets.default());
                for target in targets.targets() {
                    costs.branch_values += 1 + values(function, target?);
                }
            }
            _ => {}
        }
        function.op(offset, &operator)?;
        costs.loop_depth = costs.loop_depth.max(loops_open);
        costs.block_depth = costs.block_depth.max(function.control_stack_height());
        costs.operands = costs.operands.max(function.operand_stack_height());
        if costs.is_too_much() {
            break;
        }
    }
    Ok(costs)
}

/// The values that a branch to a label carries.
fn values<R: WasmModuleResources>(function: &FuncValidator<R>, depth: u32) -> u64 {
    let Some(frame) = function.get_control_frame(depth as usize) else { return 0 };
    let is_loop = frame.kind == FrameKind::Loop;
    match frame.block_type {
        BlockType::Empty => 0,
        BlockType::Type(_) => u64::from(!is_loop),
        BlockType::FuncType(index) => function.resources().sub_type_at(index).map_or(0, |ty| {
            let ty = ty.unwrap_func();
            (if is_loop { ty.params().len() } else { ty.results().len() }) as u64
        }),
    }
}

fn at_most(what: &str, found: u64, most: u64) -> Result<(), Stopped> {
    if found <= most {
        return Ok(());
    }
    Err(Stopped::TooLarge(format!("{what}: {found}; the limit is {most}")))
}

fn at_most_in(place: impl Fn() -> String, what: &str, found: u64, most: u64) -> Result<(), Stopped> {
    if found <= most {
        return Ok(());
    }
    Err(Stopped::TooLarge(format!("{} has too many {what}: {found}; the limit is {most}", place())))
}
