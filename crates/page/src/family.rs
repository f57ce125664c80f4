//! The parents and the children of a run.

use futures_util::future::join_all;
use wasq_protocol::{ItemState, RunItem, TaskName};

use crate::data::Data;

/// The parents and the children of a run, as far as they are known.
pub(crate) struct Family {
    /// The chain of parents goes on above them.
    pub(crate) is_cut: bool,
    /// The parents, from the top of the chain downwards.
    pub(crate) parents: Vec<Relative>,
    /// The children, and theirs.
    pub(crate) children: Vec<Relative>,
}

/// A parent or a child.
pub(crate) struct Relative {
    pub(crate) id: String,
    pub(crate) task: Option<TaskName>,
    /// `None`: nothing is remembered of it.
    pub(crate) state: Option<ItemState>,
    /// The first of its children.
    pub(crate) children: Vec<Self>,
    /// How many children it has.
    pub(crate) children_count: u32,
}

/// Levels that are read upwards and downwards, and the children that are read in all.
const PARENTS: usize = 10;
const LEVELS: usize = 3;
const CHILDREN: usize = 100;

impl Family {
    /// Reads the family of a run. Its direct children come first: theirs are read as long as there is room.
    pub(crate) async fn of<D: Data>(data: &D, run: &RunItem) -> Self {
        // One that cannot be read is not known: the run itself is still shown.
        let read = async |id: String| data.run(&id).await.ok().flatten();
        let mut parents = Vec::new();
        let mut next = run.parent.clone();
        while let Some(id) = next.take().filter(|_| parents.len() < PARENTS) {
            let item = read(id.clone()).await;
            next = item.as_ref().and_then(|item| item.parent.clone());
            parents.push(Relative::of(id, None, item.as_ref()));
        }
        parents.reverse();
        let mut top = Relative::of(run.id.clone(), run.task.clone(), Some(run));
        let mut level = vec![(&mut top, run.clone())];
        let mut room = CHILDREN;
        for _ in 0..LEVELS {
            let mut below = Vec::new();
            for (relative, item) in level {
                let shown = item.children.len().min(room);
                room -= shown;
                let items =
                    join_all(item.children.iter().take(shown).map(|child| read(child.id.clone()))).await;
                let children = item.children.into_iter().zip(&items);
                relative.children = children
                    .map(|(child, item)| Relative::of(child.id, Some(child.task), item.as_ref()))
                    .collect();
                below.extend(
                    relative.children.iter_mut().zip(items).filter_map(|(child, item)| Some((child, item?))),
                );
            }
            level = below;
        }
        Self { is_cut: next.is_some(), parents, children: top.children }
    }

    /// Whether a child may still run, or run for the first time.
    pub(crate) fn is_alive(&self) -> bool {
        self.children.iter().any(Relative::is_alive)
    }
}

impl Relative {
    fn is_alive(&self) -> bool {
        self.state.is_none_or(|state| !state.is_end()) || self.children.iter().any(Self::is_alive)
    }

    fn of(id: String, task: Option<TaskName>, item: Option<&RunItem>) -> Self {
        Self {
            id,
            task: item.and_then(|item| item.task.clone()).or(task),
            state: item.map(|item| item.state),
            children: Vec::new(),
            children_count: item.map_or(0, |item| item.children_count),
        }
    }
}
