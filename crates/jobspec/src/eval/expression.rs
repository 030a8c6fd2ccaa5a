//! Expressions: literals, references, operators, loops and calls.

use std::collections::BTreeMap;

use cos_model::Value;
use hcl_edit::expr::{
    Conditional, Expression, ForExpr, FuncCall, Traversal, TraversalOperator, UnaryOperator,
};
use hcl_edit::{Number, Span as _};

use super::operators::{self, index, to_bool, to_number, to_text, unify};
use super::{Failure, Place, Scope, fail};
use crate::diagnostic::Span;
use crate::functions::{self, Host};
use crate::limits::MAX_EVALUATION_DEPTH;

impl Place<'_, '_> {
    /// Evaluates an expression.
    pub(crate) fn expression(self, expression: &Expression) -> Result<Value, Failure> {
        let span = self.span(expression.span());
        self.step(span)?;
        let depth = self.world.depth.get() + 1;
        if depth > MAX_EVALUATION_DEPTH {
            return Err(fail(span, "expressions refer to each other too deeply"));
        }
        self.world.depth.set(depth);
        let result = self.expression_at(expression, span);
        self.world.depth.set(depth - 1);
        result
    }

    fn expression_at(self, expression: &Expression, span: Span) -> Result<Value, Failure> {
        match expression {
            Expression::Null(_) => Ok(Value::Null),
            Expression::Bool(truth) => Ok(Value::Bool(*truth.value())),
            Expression::Number(number) => Ok(literal_number(number.value())),
            Expression::String(text) => {
                self.charge(text.as_str().len(), span)?;
                Ok(Value::String(text.as_str().to_owned()))
            }
            Expression::Array(array) => array
                .iter()
                .map(|item| self.expression(item))
                .collect::<Result<_, _>>()
                .map(Value::List),
            Expression::Object(object) => {
                let mut map = BTreeMap::new();
                for (key, value) in object {
                    let (name, _) = self.object_key(key, value.expr())?;
                    map.insert(name, self.expression(value.expr())?);
                }
                Ok(Value::Map(map))
            }
            Expression::StringTemplate(template) => self.quoted(template, span),
            Expression::HeredocTemplate(heredoc) => self.heredoc(heredoc, span),
            Expression::Parenthesis(inner) => self.expression(inner.inner()),
            Expression::Variable(name) => self.variable(name.as_str(), span),
            Expression::Conditional(conditional) => self.conditional(conditional),
            Expression::FuncCall(call) => self.call(call, span),
            Expression::Traversal(traversal) => self.traversal(traversal, span),
            Expression::UnaryOp(unary) => self.unary(*unary.operator.value(), &unary.expr, span),
            Expression::BinaryOp(binary) => {
                let operator = *binary.operator.value();
                let left = self.expression(&binary.lhs_expr)?;
                let right = self.expression(&binary.rhs_expr)?;
                operators::binary(operator, &left, &right).map_err(|text| fail(span, text))
            }
            Expression::ForExpr(for_expression) => self.for_expression(for_expression, span),
        }
    }

    /// A bare name. `var` and `local` alone mean nothing; an unbound name is somebody else's.
    fn variable(self, name: &str, span: Span) -> Result<Value, Failure> {
        if let Some(value) = self.scope.and_then(|scope| scope.find(name)) {
            return Ok(value.clone());
        }
        if self.world.variables.is_some() && matches!(name, "var" | "local") {
            let problem = fail(span, format!("`{name}` needs the name of a value"));
            return Err(Box::new(problem.expected(format!("`{name}.NAME`"))));
        }
        Ok(Value::String(format!("${{{name}}}")))
    }

    fn traversal(self, traversal: &Traversal, span: Span) -> Result<Value, Failure> {
        let mut operators = traversal.operators.as_slice();
        let mut value = match &traversal.expr {
            Expression::Variable(name) => {
                let name = name.as_str();
                let bound = self.scope.is_some_and(|scope| scope.find(name).is_some());
                if bound {
                    self.variable(name, span)?
                } else if self.world.variables.is_some() && matches!(name, "var" | "local") {
                    let Some((first, rest)) = operators.split_first() else {
                        return self.variable(name, span);
                    };
                    operators = rest;
                    let TraversalOperator::GetAttr(member) = first.value() else {
                        return self.variable(name, span);
                    };
                    self.named(name, member.as_str(), span)?
                } else {
                    // `attr.kernel.name`, `env["X"]`: kept for whoever runs the task.
                    return Ok(Value::String(format!("${{{}}}", self.source().slice(span))));
                }
            }
            other => self.expression(other)?,
        };
        let mut rest = operators.iter();
        while let Some(operator) = rest.next() {
            let splat = match operator.value() {
                TraversalOperator::AttrSplat(_) | TraversalOperator::FullSplat(_) => true,
                other => {
                    value = self.step_into(&value, other, span)?;
                    false
                }
            };
            if splat {
                let members = match value {
                    Value::List(items) => items,
                    Value::Null => Vec::new(),
                    single => vec![single],
                };
                let remaining = rest.as_slice();
                let mut results = Vec::with_capacity(members.len());
                for mut member in members {
                    for operator in remaining {
                        member = self.step_into(&member, operator.value(), span)?;
                    }
                    results.push(member);
                }
                return Ok(Value::List(results));
            }
        }
        Ok(value)
    }

    fn step_into(
        self,
        value: &Value,
        operator: &TraversalOperator,
        span: Span,
    ) -> Result<Value, Failure> {
        self.step(span)?;
        let key = match operator {
            TraversalOperator::GetAttr(name) => Value::String(name.as_str().to_owned()),
            TraversalOperator::Index(expression) => self.expression(expression)?,
            TraversalOperator::LegacyIndex(number) => {
                Value::Int(i64::try_from(*number.value()).unwrap_or(i64::MAX))
            }
            TraversalOperator::AttrSplat(_) | TraversalOperator::FullSplat(_) => {
                return Err(fail(span, "a splat within a splat is not supported"));
            }
        };
        index(value, &key).map_err(|text| fail(span, text))
    }

    /// `var.x` or `local.x`.
    fn named(self, kind: &str, name: &str, span: Span) -> Result<Value, Failure> {
        if kind == "local" {
            return self.local(name, span);
        }
        let variables = self.world.variables.as_ref();
        variables.and_then(|variables| variables.get(name)).cloned().ok_or_else(|| {
            let problem = fail(span, format!("the variable `{name}` is not declared"));
            Box::new(
                problem.expected(format!("a block `variable \"{name}\" {{ … }}` in this file")),
            )
        })
    }

    fn local(self, name: &str, span: Span) -> Result<Value, Failure> {
        if let Some(value) = self.world.resolved.borrow().get(name) {
            return Ok(value.clone());
        }
        let Some(expression) = self.world.locals.get(name) else {
            let problem = fail(span, format!("the local `{name}` is not declared"));
            return Err(Box::new(problem.expected(format!("`{name} = …` in a block `locals`"))));
        };
        {
            let mut resolving = self.world.resolving.borrow_mut();
            if resolving.iter().any(|other| other == name) {
                return Err(fail(span, format!("the local `{name}` refers to itself")));
            }
            resolving.push(name.to_owned());
        }
        let value = self.world.place().expression(expression);
        self.world.resolving.borrow_mut().pop();
        let value = value?;
        self.world.resolved.borrow_mut().insert(name.to_owned(), value.clone());
        Ok(value)
    }

    fn conditional(self, conditional: &Conditional) -> Result<Value, Failure> {
        let condition = self.truth(&conditional.cond_expr)?;
        let (chosen, other) = if condition {
            (&conditional.true_expr, &conditional.false_expr)
        } else {
            (&conditional.false_expr, &conditional.true_expr)
        };
        let value = self.expression(chosen)?;
        // Both branches have one type, so the other one counts, if it can be evaluated.
        Ok(match self.expression(other) {
            Ok(other) => unify(value, &other),
            Err(_) => value,
        })
    }

    /// Evaluates a condition.
    pub(super) fn truth(self, expression: &Expression) -> Result<bool, Failure> {
        let value = self.expression(expression)?;
        to_bool(&value).ok_or_else(|| {
            let span = self.span(expression.span());
            let problem = fail(span, format!("a condition cannot be a {}", value.kind()));
            Box::new(problem.expected("true or false"))
        })
    }

    fn unary(
        self,
        operator: UnaryOperator,
        operand: &Expression,
        span: Span,
    ) -> Result<Value, Failure> {
        let value = self.expression(operand)?;
        let result = match operator {
            UnaryOperator::Neg => to_number(&value).map(|number| match number {
                Value::Int(number) => number.checked_neg().map_or(Value::Null, Value::Int),
                Value::Float(number) => Value::Float(-number),
                other => other,
            }),
            UnaryOperator::Not => to_bool(&value).map(|truth| Value::Bool(!truth)),
        };
        result.ok_or_else(|| {
            fail(span, format!("this operator cannot be used on a {}", value.kind()))
        })
    }

    /// Evaluates a collection into pairs: index and member of a list, key and value of a map.
    pub(super) fn iterate(self, expression: &Expression) -> Result<Vec<(Value, Value)>, Failure> {
        let span = self.span(expression.span());
        match self.expression(expression)? {
            Value::List(items) => Ok((0_i64..).map(Value::Int).zip(items).collect()),
            // A map iterates in the order of its keys, whatever the order of the file was.
            Value::Map(map) => {
                Ok(map.into_iter().map(|(key, value)| (Value::String(key), value)).collect())
            }
            other => {
                let summary = format!("a {} cannot be iterated", other.kind());
                Err(Box::new(fail(span, summary).expected("a list or a map")))
            }
        }
    }

    fn for_expression(self, expression: &ForExpr, span: Span) -> Result<Value, Failure> {
        let intro = &expression.intro;
        let mut list = Vec::new();
        let mut map: BTreeMap<String, Value> = BTreeMap::new();
        for (key, value) in self.iterate(&intro.collection_expr)? {
            let key_name = intro.key_var.as_ref().map_or("", |name| name.as_str());
            let outer = Scope::bind(key_name, &key, self.scope);
            let scope = Scope::bind(intro.value_var.as_str(), &value, Some(&outer));
            let place = Place { world: self.world, scope: Some(&scope), base: self.base };
            place.step(span)?;
            if let Some(condition) = &expression.cond
                && !place.truth(&condition.expr)?
            {
                continue;
            }
            let result = place.expression(&expression.value_expr)?;
            let Some(key_expression) = &expression.key_expr else {
                list.push(result);
                continue;
            };
            let key_span = self.span(key_expression.span());
            let key = to_text(&place.expression(key_expression)?)
                .ok_or_else(|| Box::new(fail(key_span, "this cannot be a key").expected("text")))?;
            if expression.grouping {
                match map.entry(key).or_insert_with(|| Value::List(Vec::new())) {
                    Value::List(group) => group.push(result),
                    _ => return Err(fail(span, "this key holds no group")),
                }
            } else if let Some(_replaced) = map.insert(key.clone(), result) {
                let summary = format!("the key `{key}` is made twice");
                let expected = "different keys, or `...` behind the value to group them";
                return Err(Box::new(fail(key_span, summary).expected(expected)));
            }
        }
        Ok(if expression.key_expr.is_some() { Value::Map(map) } else { Value::List(list) })
    }

    fn call(self, call: &FuncCall, span: Span) -> Result<Value, Failure> {
        let name = call.name.name.as_str();
        let name_span = self.span(call.name.name.span());
        if call.name.is_namespaced() {
            return Err(fail(name_span, "functions have no namespaces here"));
        }
        match name {
            "try" => return self.call_try(call, span),
            "can" => {
                let evaluated = call.args.iter().next().map(|argument| self.expression(argument));
                return Ok(Value::Bool(matches!(evaluated, Some(Ok(_)))));
            }
            _ => {}
        }
        let function = functions::find(name).map_err(|text| fail(name_span, text))?;
        let mut arguments = Vec::with_capacity(call.args.len());
        for argument in &call.args {
            arguments.push(self.expression(argument)?);
        }
        if call.args.expand_final() {
            match arguments.pop() {
                Some(Value::List(items)) => arguments.extend(items),
                _ => return Err(fail(span, "`...` can only expand a list")),
            }
        }
        if let Some(expected) = function.arity_problem(arguments.len()) {
            let summary = format!("`{name}` got {} arguments", arguments.len());
            return Err(Box::new(fail(span, summary).expected(expected)));
        }
        let host = Host { files: self.world.files.as_deref() };
        let value = (function.run)(&arguments, &host)
            .map_err(|text| fail(span, format!("`{name}`: {text}")))?;
        self.charge(weight(&value), span)?;
        Ok(value)
    }

    fn call_try(self, call: &FuncCall, span: Span) -> Result<Value, Failure> {
        let mut last = None;
        for argument in &call.args {
            match self.expression(argument) {
                Ok(value) => return Ok(value),
                Err(problem) => last = Some(problem),
            }
        }
        Err(last.unwrap_or_else(|| fail(span, "`try` got no argument")))
    }
}

/// How many bytes a value takes, roughly.
pub(super) fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 16,
        Value::List(items) => 16 + items.iter().map(weight).sum::<usize>(),
        Value::Map(map) => {
            16 + map.iter().map(|(key, value)| key.len() + weight(value)).sum::<usize>()
        }
        _ => 16,
    }
}

fn literal_number(number: &Number) -> Value {
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => Value::Int(whole),
        (None, Some(fraction)) => Value::Float(fraction),
        (None, None) => Value::Null,
    }
}
