//! The attribute of `wasq-task`; see there.

use proc_macro::TokenStream;
use proc_macro2::Span;
use quote::quote;
use syn::{Error, ItemFn, ReturnType};

/// Makes a function the task: `fn(Params) -> Result<Output, Failure>`, with types that serde reads and writes.
///
/// The function stays as it is, and tests can call it. For WebAssembly the macro also exports a component,
/// which reads the message's params, calls the function, and writes its result.
#[proc_macro_attribute]
pub fn task(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(arguments.into(), item.into()).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(
    arguments: proc_macro2::TokenStream,
    item: proc_macro2::TokenStream,
) -> syn::Result<proc_macro2::TokenStream> {
    if !arguments.is_empty() {
        return Err(Error::new_spanned(arguments, "#[task] takes no arguments: settings are in NAME.toml"));
    }
    let function: ItemFn = syn::parse2(item)?;
    let signature = &function.sig;
    if signature.asyncness.is_some() {
        let problem = "a task cannot be an async function: every call that it can wait for is synchronous";
        return Err(Error::new_spanned(&signature.asyncness, problem));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(&signature.generics, "a task has no type parameters"));
    }
    if signature.inputs.len() != 1 {
        let problem =
            "a task takes one argument: the message's params, as a type that implements Deserialize";
        return Err(Error::new_spanned(&signature.inputs, problem));
    }
    if matches!(signature.output, ReturnType::Default) {
        let problem =
            "a task returns Result<Output, wasq_task::Failure>, with an Output that implements Serialize";
        return Err(Error::new(Span::call_site(), problem));
    }
    let name = &signature.ident;
    let (syn::FnArg::Typed(params), ReturnType::Type(_, result)) = (&signature.inputs[0], &signature.output)
    else {
        return Err(Error::new_spanned(&signature.inputs, "a task is a function, and no method"));
    };
    let params = &params.ty;
    Ok(quote! {
        #function

        // Without a component, perhaps only tests call it; this use avoids a warning.
        #[cfg(not(target_family = "wasm"))]
        const _: () = {
            let _ = #name;
        };

        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Component;

            #[allow(unexpected_cfgs)]
            impl ::wasq_task::__private::Guest for Component {
                fn run(
                    params: ::std::string::String,
                ) -> ::std::result::Result<::std::string::String, ::wasq_task::__private::WitFailure> {
                    // `wasq build` builds the crate so to ask for its schema.
                    #[cfg(wasq_schema)]
                    {
                        let _ = (params, #name);
                        ::wasq_task::__schemas!(#params, #result)
                    }
                    #[cfg(not(wasq_schema))]
                    ::wasq_task::__private::run(&params, #name)
                }
            }

            ::wasq_task::__private::export_task!(Component with_types_in ::wasq_task::__private::bindings);
        };
    })
}
