# One place for the flags and the three shapes of target: library, ISA library, test.
include(GoogleTest)

# Optional speed-ups of the build itself.
find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()
find_program(MOLD_PROGRAM mold)
if(MOLD_PROGRAM AND NOT PACKMULE_SANITIZE)
  add_link_options(-fuse-ld=mold)
endif()

add_compile_options(-Wall -Wextra -Wshadow -Wno-missing-field-initializers)
# A fused multiply-add where the source says "multiply, then add" would make the bits of a result depend on
# the compiler: contraction is off everywhere, kernels ask for FMA by intrinsic.
add_compile_options(-ffp-contract=off -fno-math-errno)
if(PACKMULE_SANITIZE)
  add_compile_options(-fsanitize=${PACKMULE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -g1)
  add_link_options(-fsanitize=${PACKMULE_SANITIZE})
endif()
if(PACKMULE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)  # libraries tell the fuzzer which branches were taken
endif()

# packmule_library(NAME SOURCES ... DEPS ... LIBS ...): static library packmule_NAME of the folder src/NAME.
# DEPS are packmule folders, LIBS are outside libraries; both are public.
function(packmule_library name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  add_library(packmule_${name} STATIC ${A_SOURCES})
  target_include_directories(packmule_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  foreach(dep ${A_DEPS})
    target_link_libraries(packmule_${name} PUBLIC packmule_${dep})
  endforeach()
  target_link_libraries(packmule_${name} PUBLIC ${A_LIBS})
endfunction()

# Sanitizers would judge graphics drivers, whose faults are not ours: under them programs find none.
if(PACKMULE_SANITIZE)
  set(packmule_test_environment ENVIRONMENT "VK_ICD_FILENAMES=/nonexistent.json")
endif()

# packmule_test(NAME SOURCES ... DEPS ... LIBS ... LABEL x TIMEOUT s): a GoogleTest binary, every TEST its own ctest
# entry. One label at most: test discovery loses all but the first of a list. "slow" tests are not in `make test`.
function(packmule_test name)
  cmake_parse_arguments(A "" "TIMEOUT;LABEL" "SOURCES;DEPS;LIBS" ${ARGN})
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 120)
  endif()
  add_executable(${name} ${A_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR})
  target_compile_definitions(${name} PRIVATE PACKMULE_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
                                             PACKMULE_BINARY_DIR="${CMAKE_BINARY_DIR}")
  foreach(dep ${A_DEPS})
    target_link_libraries(${name} PRIVATE packmule_${dep})
  endforeach()
  target_link_libraries(${name} PRIVATE packmule_testing GTest::gmock GTest::gtest_main ${A_LIBS})
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
                       PROPERTIES TIMEOUT ${A_TIMEOUT} LABELS "${A_LABEL}" ${packmule_test_environment})
endfunction()

# packmule_fuzzer(NAME SOURCES ... DEPS ...): a libFuzzer binary with ASan and UBSan; only with PACKMULE_FUZZ. The
# target `fuzzers` builds all of them.
function(packmule_fuzzer name)
  if(NOT PACKMULE_FUZZ)
    return()
  endif()
  cmake_parse_arguments(A "" "" "SOURCES;DEPS;LIBS" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/src)
  foreach(dep ${A_DEPS})
    target_link_libraries(${name} PRIVATE packmule_${dep})
  endforeach()
  target_link_libraries(${name} PRIVATE ${A_LIBS})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  if(NOT TARGET fuzzers)
    add_custom_target(fuzzers)
  endif()
  add_dependencies(fuzzers ${name})
endfunction()
