// One call in the XML form of Qwen3-Coder and Qwen3.5:
//
//   <function=NAME>
//   <parameter=KEY>
//   value
//   </parameter>
//   </function>
//
// A value is plain text: nothing in it is escaped, and it may hold the very tags that end it (a model that
// writes a file about tool calls). So a closing tag closes only where what follows it fits:
//
//   </parameter>  before <parameter=, </function>, </tool_call> or the end, or before a </parameter> that
//   closes.
//                 Of several in a row, those belong to the value that close a <parameter...> opened inside it
//   <parameter=   at the start of a line with a declared key that was not given yet: </parameter> was
//   forgotten
//   </function>   before </tool_call> or the end: likewise
//   </tool_call>  before <tool_call> or the end: likewise
//
// One newline behind the opening tag and one before the closing tag are not part of the value.
#pragma once

#include <string>

#include "chat/call_output.h"
#include "chat/resumable.h"
#include "chat/tool_arguments.h"

namespace packmule::chat {

/// Reads a call from behind `<function=NAME>` through `</function>`, or up to what ends it in its place.
/// String values go out while they arrive, others when they are closed. A call that the text's end cuts off
/// gets what is there of it, as complete JSON; a tag in which the text ends is dropped. Text between the
/// parameters goes out as text.
Task<void> xml_call(Input& in, CallOutput& out, const ToolSchemas& tools, std::string name);

}  // namespace packmule::chat
